//! Replies of a daemon, which may be another host's: what virsh-lite makes of them can be printed on a terminal.

use std::fmt::Debug;

use berth_schemas::wire::reply_bytes;
use berth_schemas::{domain, network, node};
use serde::Serialize;
use serde::de::DeserializeOwned;
use virsh_lite::client::decode;

/// Reads `data` as a reply of the method that its first byte chooses.
pub fn run(data: &[u8]) {
    let Some((which, message)) = data.split_first() else { return };
    match which % 24 {
        0 => reply::<domain::ListOut>(domain::Method::List.name(), message),
        1 => reply::<domain::GetUsageOut>(domain::Method::GetUsage.name(), message),
        2 => reply::<domain::DefineOut>(domain::Method::Define.name(), message),
        3 => reply::<domain::CreateOut>(domain::Method::Create.name(), message),
        4 => reply::<domain::StartOut>(domain::Method::Start.name(), message),
        5 => reply::<domain::ShutdownOut>(domain::Method::Shutdown.name(), message),
        6 => reply::<domain::GetXMLOut>(domain::Method::GetXML.name(), message),
        7 => reply::<domain::GetMetadataOut>(domain::Method::GetMetadata.name(), message),
        8 => reply::<domain::SubscribeOut>(domain::Method::Subscribe.name(), message),
        9 => reply::<domain::OpenConsoleOut>(domain::Method::OpenConsole.name(), message),
        10 => reply::<domain::ReadConsoleLogOut>(domain::Method::ReadConsoleLog.name(), message),
        11 => reply::<node::GetInfoOut>(node::Method::GetInfo.name(), message),
        12 => reply::<node::GetVersionOut>(node::Method::GetVersion.name(), message),
        13 => reply::<node::GetCapabilitiesOut>(node::Method::GetCapabilities.name(), message),
        14 => reply::<node::GetRoleOut>(node::Method::GetRole.name(), message),
        15 => {
            reply::<domain::GetInterfaceAddressesOut>(domain::Method::GetInterfaceAddresses.name(), message)
        }
        16 => reply::<domain::GetStatsOut>(domain::Method::GetStats.name(), message),
        17 => reply::<domain::GetResourcesOut>(domain::Method::GetResources.name(), message),
        18 => reply::<network::ListOut>(network::Method::List.name(), message),
        19 => reply::<network::DefineOut>(network::Method::Define.name(), message),
        20 => reply::<network::GetXMLOut>(network::Method::GetXML.name(), message),
        21 => reply::<network::GetLeasesOut>(network::Method::GetLeases.name(), message),
        22 => reply::<network::SubscribeOut>(network::Method::Subscribe.name(), message),
        _ => reply::<domain::UndefineOut>(domain::Method::Undefine.name(), message),
    }
}

fn reply<Out: DeserializeOwned + Serialize + PartialEq + Debug>(method: &'static str, message: &[u8]) {
    match decode::<Out>(method, message) {
        Ok(reply) => {
            let mut bytes = reply_bytes(&reply.out, reply.continues);
            assert_eq!(bytes.pop(), Some(0));
            match decode::<Out>(method, &bytes) {
                Ok(again) => assert_eq!((again.out, again.continues), (reply.out, reply.continues)),
                Err(e) => panic!("own reply refused: {e:?}"),
            }
        }
        Err(e) => {
            for readonly in [false, true] {
                calm(&e.because("failed", readonly).render(false));
            }
        }
    }
}

/// Nothing but line ends and tabs moves the cursor.
pub fn calm(text: &str) {
    assert!(!text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "{text:?}");
}
