//! Calls to a controller: bytes on a socket, cut anyhow, into messages, calls and their parameters.

use std::io::Write;
use std::os::unix::net::UnixStream;

use berth_controller::readers::Connection;
use berth_controller::readers::call::{Wanted, read};
use berth_schemas::controller::{self, Method};

use crate::calls::{chunks, parameters, whole};

/// Sends `data` to a connection.
pub fn run(data: &[u8]) {
    let pieces = chunks(data);
    if data.len() > 32 << 10 || pieces.len() > 24 {
        return;
    }
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let (mut ours, mut connection) = (Some(ours), Connection::new(0, theirs.into()));
    let (mut got, mut refused) = (Vec::new(), false);
    let mut left = pieces.iter();
    while ours.is_some() {
        match left.next() {
            Some((_, piece)) => ours.as_mut().expect("open").write_all(piece).expect("room"),
            None => drop(ours.take()),
        }
        connection.read();
        loop {
            match connection.take_message() {
                Ok(Some(message)) => got.push(message),
                Ok(None) => break,
                Err(_) => {
                    refused = true;
                    break;
                }
            }
        }
        if refused {
            break;
        }
    }
    let stream: Vec<u8> = pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
    assert_eq!(got, whole(&stream));
    assert!(refused || connection.gone, "the end was not seen");
    got.iter().for_each(|message| call(message));
}

/// What a controller does with a message before it acts.
fn call(message: &[u8]) {
    let Ok(call) = read(message) else { return };
    let p = call.parameters;
    match call.wanted {
        Wanted::Answered(bytes) => {
            assert_eq!(bytes.iter().position(|b| *b == 0), Some(bytes.len() - 1), "one message");
        }
        Wanted::Method(method) => match method {
            Method::PrepareNetwork => parameters::<controller::PrepareNetworkIn>(&p),
            Method::Launch => parameters::<controller::LaunchIn>(&p),
            Method::GetStatus => parameters::<controller::GetStatusIn>(&p),
            Method::Subscribe => parameters::<controller::SubscribeIn>(&p),
            Method::Shutdown => parameters::<controller::ShutdownIn>(&p),
            Method::SendSignal => parameters::<controller::SendSignalIn>(&p),
            Method::Destroy => parameters::<controller::DestroyIn>(&p),
            Method::AttachConsole => parameters::<controller::AttachConsoleIn>(&p),
            Method::OpenConsole => parameters::<controller::OpenConsoleIn>(&p),
            Method::ResizeConsole => parameters::<controller::ResizeConsoleIn>(&p),
            Method::AttachDevice => parameters::<controller::AttachDeviceIn>(&p),
            Method::DetachDevice => parameters::<controller::DetachDeviceIn>(&p),
            Method::GetCpuTimes => parameters::<controller::GetCpuTimesIn>(&p),
            Method::ListDevices => parameters::<controller::ListDevicesIn>(&p),
        },
    }
}
