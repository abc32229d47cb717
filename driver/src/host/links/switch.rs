//! Ports of Open vSwitch, by its own command: it has a database of its own, which no message to the kernel reaches.
//!
//! Does not know links.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use berth_domain::model::{VirtualPort, Vlan, VlanMode};
use tokio::process::Command;
use uuid::Uuid;

use super::LinkError;
use crate::host::process::find_program;

/// The command.
const PROGRAM: &str = "ovs-vsctl";
/// Seconds that it may wait for the daemon of the switch.
const TIMEOUT: &str = "--timeout=5";

/// Makes an interface of the host a port of a switch, in place of the port of that name that may be there.
pub async fn add(
    bridge: &str,
    name: &str,
    (port, vlan): (&VirtualPort, Option<&Vlan>),
    (mac, domain): (&str, Uuid),
) -> Result<(), LinkError> {
    let failed = |cause: String| LinkError::other("add interface to the switch", bridge, &cause);
    let program = find_program(PROGRAM)
        .ok_or_else(|| failed(format!("{PROGRAM} is not installed (package openvswitch-switch)")))?;
    run(&program, &words(bridge, name, (port, vlan), (mac, domain))).await.map(drop).map_err(failed)
}

/// Takes a port out of whatever switch it is in, if it is the one that was made for this hardware address: the name may
/// be somebody else's. Without the command there is none.
pub async fn remove(name: &str, mac: &str) -> Result<(), LinkError> {
    let Some(program) = find_program(PROGRAM) else { return Ok(()) };
    let failed = |cause: String| LinkError::other("remove the port", name, &cause);
    let ask = [TIMEOUT, "--if-exists", "get", "Interface", name, "external-ids:attached-mac"];
    // A port that has no such entry is an error of the command, and not ours.
    let Ok(whose) = run(&program, &ask.map(str::to_owned)).await else { return Ok(()) };
    if whose.trim().trim_matches('"') != mac {
        return Ok(());
    }
    let words = [TIMEOUT, "--", "--if-exists", "del-port", name].map(str::to_owned);
    run(&program, &words).await.map(drop).map_err(failed)
}

fn words(
    bridge: &str,
    name: &str,
    (port, vlan): (&VirtualPort, Option<&Vlan>),
    (mac, domain): (&str, Uuid),
) -> Vec<String> {
    let mut words = [TIMEOUT, "--", "--if-exists", "del-port", name, "--", "add-port", bridge, name]
        .map(str::to_owned)
        .to_vec();
    if let Some(vlan) = vlan {
        let native = vlan.tags.iter().find(|t| t.native_mode.is_some());
        if let Some(tag) = native {
            let untagged = tag.native_mode == Some(VlanMode::Untagged);
            words.push(format!("vlan_mode=native-{}", if untagged { "untagged" } else { "tagged" }));
            words.push(format!("tag={}", tag.id));
        }
        if vlan.trunk == Some(true) {
            let ids: Vec<String> = vlan.tags.iter().map(|t| t.id.to_string()).collect();
            words.push(format!("trunks={}", ids.join(",")));
        } else if let (None, Some(tag)) = (native, vlan.tags.first()) {
            words.push(format!("tag={}", tag.id));
        }
    }
    let mut ids = vec![("attached-mac", mac.to_owned()), ("vm-id", domain.to_string())];
    ids.push(("iface-status", "active".into()));
    for (parameter, id) in [("interfaceid", "iface-id"), ("profileid", "port-profile")] {
        let given = port.parameters.iter().find(|(name, _)| name == parameter);
        ids.extend(given.map(|(_, value)| (id, value.clone())));
    }
    words.extend(["--", "set", "Interface", name].map(str::to_owned));
    words.extend(ids.into_iter().map(|(id, value)| format!("external-ids:{id}=\"{}\"", quoted(&value))));
    words
}

/// As the database takes text between quotes.
fn quoted(value: &str) -> String {
    // As in JSON: what has no letter of its own is a control character, which no value of a document has.
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

async fn run(program: &Path, words: &[String]) -> Result<String, String> {
    let name: PathBuf = program.into();
    let output = Command::new(&name)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| format!("cannot run '{}': {e}", name.display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default().trim();
    Err(if said.is_empty() { format!("{PROGRAM}: {}", output.status) } else { said.to_owned() })
}

#[cfg(test)]
mod test {
    use super::*;
    use berth_domain::model::VlanTag;

    #[test]
    fn a_port_is_made_in_one_go() {
        let port = VirtualPort {
            kind: Some("openvswitch".into()),
            parameters: vec![("interfaceid".into(), "a\"b".into())],
            extra: Default::default(),
        };
        let vlan = Vlan {
            trunk: Some(true),
            tags: vec![
                VlanTag { id: 7, native_mode: Some(VlanMode::Untagged) },
                VlanTag { id: 8, native_mode: None },
            ],
            extra: Default::default(),
        };
        let made = words("ovs0", "vnet3", (&port, Some(&vlan)), ("52:54:00:00:00:01", Uuid::nil()));
        assert_eq!(
            made.join(" "),
            "--timeout=5 -- --if-exists del-port vnet3 -- add-port ovs0 vnet3 vlan_mode=native-untagged tag=7 trunks=7,8 \
             -- set Interface vnet3 external-ids:attached-mac=\"52:54:00:00:00:01\" \
             external-ids:vm-id=\"00000000-0000-0000-0000-000000000000\" external-ids:iface-status=\"active\" \
             external-ids:iface-id=\"a\\\"b\""
        );
    }
}
