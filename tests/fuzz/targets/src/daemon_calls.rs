//! Calls to berthd: bytes and descriptors on a socket, cut anyhow, into messages, calls and their parameters.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::LazyLock;

use berth_driver::wire::Channel;
use berth_schemas::domain::{self, Method as Domain};
use berth_schemas::network::{self, Method as Network};
use berth_schemas::node::{self, Method as Node};
use berth_schemas::wire::{Request, parse_request};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::calls::{chunks, parameters, whole};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
}

static NULL: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("a file"));

/// Sends `data` to a channel.
pub fn run(data: &[u8]) {
    let pieces = chunks(data);
    // More than the kernel buffers would need a second task.
    if data.len() > 32 << 10 || pieces.len() > 24 {
        return;
    }
    let stream: Vec<u8> = pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
    let got = RUNTIME.with(|runtime| runtime.block_on(receive(&pieces)));
    let expected = whole(&stream);
    assert_eq!(got.len(), expected.len(), "messages");
    for (message, (bytes, _)) in expected.iter().zip(&got) {
        assert_eq!(message, bytes);
        call(message);
    }
    let sent: usize = pieces.iter().map(|(n, _)| n).sum();
    let received: usize = got.iter().map(|(_, n)| n).sum();
    assert!(received <= sent, "descriptors out of nothing");
    if expected.iter().map(|m| m.len() + 1).sum::<usize>() == stream.len() {
        assert_eq!(received, sent, "descriptors that no message has");
    }
}

/// What the channel makes of the pieces: the messages, each with the number of its descriptors.
async fn receive(pieces: &[(usize, &[u8])]) -> Vec<(Vec<u8>, usize)> {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let (mut from, mut to) = (Channel::new(ours), Channel::new(theirs));
    let mut got = Vec::new();
    for (descriptors, piece) in pieces {
        let null: [BorrowedFd<'_>; 3] = [NULL.as_fd(); 3];
        // The socket has room, so this never waits.
        from.send(piece, &null[..*descriptors]).await.expect("sent");
    }
    drop(from);
    while let Ok(Some(message)) = to.next().await {
        got.push((message.bytes, message.descriptors.len()));
    }
    got
}

/// What a connection does with a message before it asks the engine.
fn call(message: &[u8]) {
    let Ok(Request { method, parameters: p, .. }) = parse_request(message) else { return };
    if let Some(method) = Domain::from_name(&method) {
        match method {
            Domain::List => parameters::<domain::ListIn>(&p),
            Domain::GetUsage => parameters::<domain::GetUsageIn>(&p),
            Domain::Define => parameters::<domain::DefineIn>(&p),
            Domain::Undefine => parameters::<domain::UndefineIn>(&p),
            Domain::Create => parameters::<domain::CreateIn>(&p),
            Domain::Start => parameters::<domain::StartIn>(&p),
            Domain::Shutdown => parameters::<domain::ShutdownIn>(&p),
            Domain::Reboot => parameters::<domain::RebootIn>(&p),
            Domain::SendProcessSignal => parameters::<domain::SendProcessSignalIn>(&p),
            Domain::GetHostname => parameters::<domain::GetHostnameIn>(&p),
            Domain::Destroy => parameters::<domain::DestroyIn>(&p),
            Domain::GetXML => parameters::<domain::GetXMLIn>(&p),
            Domain::SetAutostart => parameters::<domain::SetAutostartIn>(&p),
            Domain::GetMetadata => parameters::<domain::GetMetadataIn>(&p),
            Domain::SetMetadata => parameters::<domain::SetMetadataIn>(&p),
            Domain::Subscribe => parameters::<domain::SubscribeIn>(&p),
            Domain::OpenConsole => parameters::<domain::OpenConsoleIn>(&p),
            Domain::AttachConsole => parameters::<domain::AttachConsoleIn>(&p),
            Domain::ResizeConsole => parameters::<domain::ResizeConsoleIn>(&p),
            Domain::ReadConsoleLog => parameters::<domain::ReadConsoleLogIn>(&p),
            Domain::GetStats => parameters::<domain::GetStatsIn>(&p),
            Domain::Suspend => parameters::<domain::SuspendIn>(&p),
            Domain::Resume => parameters::<domain::ResumeIn>(&p),
            Domain::GetInterfaceAddresses => parameters::<domain::GetInterfaceAddressesIn>(&p),
            Domain::AttachDevice => parameters::<domain::AttachDeviceIn>(&p),
            Domain::DetachDevice => parameters::<domain::DetachDeviceIn>(&p),
            Domain::UpdateDevice => parameters::<domain::UpdateDeviceIn>(&p),
            Domain::GetResources => parameters::<domain::GetResourcesIn>(&p),
            Domain::SetResources => parameters::<domain::SetResourcesIn>(&p),
            Domain::TuneInterface => parameters::<domain::TuneInterfaceIn>(&p),
        }
    } else if let Some(method) = Network::from_name(&method) {
        match method {
            Network::List => parameters::<network::ListIn>(&p),
            Network::Define => parameters::<network::DefineIn>(&p),
            Network::Create => parameters::<network::CreateIn>(&p),
            Network::Start => parameters::<network::StartIn>(&p),
            Network::Destroy => parameters::<network::DestroyIn>(&p),
            Network::Undefine => parameters::<network::UndefineIn>(&p),
            Network::GetXML => parameters::<network::GetXMLIn>(&p),
            Network::SetAutostart => parameters::<network::SetAutostartIn>(&p),
            Network::Update => parameters::<network::UpdateIn>(&p),
            Network::GetLeases => parameters::<network::GetLeasesIn>(&p),
            Network::AddInterface => parameters::<network::AddInterfaceIn>(&p),
            Network::RemoveInterface => parameters::<network::RemoveInterfaceIn>(&p),
            Network::Subscribe => parameters::<network::SubscribeIn>(&p),
        }
    } else if let Some(method) = Node::from_name(&method) {
        match method {
            Node::GetInfo => parameters::<node::GetInfoIn>(&p),
            Node::GetVersion => parameters::<node::GetVersionIn>(&p),
            Node::GetHostname => parameters::<node::GetHostnameIn>(&p),
            Node::GetCapabilities => parameters::<node::GetCapabilitiesIn>(&p),
            Node::GetSysinfo => parameters::<node::GetSysinfoIn>(&p),
            Node::GetCpuTimes => parameters::<node::GetCpuTimesIn>(&p),
            Node::GetCpuMap => parameters::<node::GetCpuMapIn>(&p),
            Node::GetMemoryFigures => parameters::<node::GetMemoryFiguresIn>(&p),
            Node::GetCells => parameters::<node::GetCellsIn>(&p),
            Node::ListInterfaces => parameters::<node::ListInterfacesIn>(&p),
            Node::GetMemoryParameters => parameters::<node::GetMemoryParametersIn>(&p),
            Node::SetMemoryParameters => parameters::<node::SetMemoryParametersIn>(&p),
            Node::GetRole => parameters::<node::GetRoleIn>(&p),
            Node::RestrictToReading => parameters::<node::RestrictToReadingIn>(&p),
        }
    }
}
