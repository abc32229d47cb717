//! What a container is handed as descriptors: namespaces that it shares, what the caller gives its init, credentials, and
//! the program of its own view.
//!
//! Does not know the order of a start, nor which index a descriptor has in the plan beyond the order in here.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use berth_domain::model::{NamespaceKind, NamespaceShare, NamespaceSource};
use berth_domain::{CredentialSource, Domain};
use berth_schemas::controller::StepFailure;

use crate::container::credentials;
use crate::container::messages::{plain, step_failed};
use crate::container::start::Spec;
use crate::engine::Engine;
use crate::engine::registry::Reference;
use crate::host::namespaces;

/// All but the program of its view, in the order of the plan.
pub fn descriptors(engine: &Engine, spec: &Spec) -> Result<Vec<OwnedFd>, Box<StepFailure>> {
    let domain = &spec.domain;
    let mut descriptors = Vec::new();
    for share in domain.namespace.iter().flat_map(|n| &n.shares) {
        descriptors.push(namespace(engine, share)?);
    }
    for fd in &spec.descriptors {
        let copy = fd.try_clone();
        descriptors
            .push(copy.map_err(|e| Box::new(step_failed("descriptors", "copy a descriptor", None, &e)))?);
    }
    for credential in domain.credentials() {
        descriptors.push(credentials::take(&credential).map_err(|e| {
            let path = match &credential.source {
                CredentialSource::File(path) => Some(Path::new(path)),
                CredentialSource::Value(_) => None,
            };
            let operation = format!("take the credential '{}' from", credential.name);
            Box::new(step_failed("credentials", &operation, path, &e))
        })?);
    }
    Ok(descriptors)
}

/// The program that serves its own view. On a host without FUSE it has none: a container that sees the host's memory
/// is better than none at all.
pub fn view_program(engine: &Engine, domain: &Domain) -> Option<OwnedFd> {
    let device = Path::new("/dev/fuse");
    // Opened, as the module may come only then.
    let found = File::options().read(true).write(true).open(device).map_err(|e| (device, e));
    match found.and_then(|_| engine.view.to_give().map_err(|e| (engine.view.path(), e))) {
        Ok(program) => Some(program),
        Err((path, e)) => {
            let (name, path) = (&domain.name, path.display());
            tracing::warn!(
                "domain '{name}' sees the host's memory and processors: cannot open '{path}': {e}"
            );
            None
        }
    }
}

/// The descriptor of a namespace that is shared.
fn namespace(engine: &Engine, share: &NamespaceShare) -> Result<OwnedFd, Box<StepFailure>> {
    let kind = match share.kind {
        NamespaceKind::Net => "net",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
    };
    let whose = share.source.as_str();
    let operation = format!("open the {kind} namespace of {whose} '{}'", share.value);
    let opened = match share.source {
        NamespaceSource::Netns => namespaces::of_name(&share.value),
        NamespaceSource::Pid => match share.value.parse() {
            Ok(pid) => namespaces::of_process(pid, kind),
            Err(_) => return Err(Box::new(plain("namespaces", &operation, "it is not a process id".into()))),
        },
        NamespaceSource::Name => match engine.init_pid(&Reference::by_name(&share.value)) {
            Some(pid) => namespaces::of_process(pid, kind),
            None => {
                return Err(Box::new(plain("namespaces", &operation, "the domain is not running".into())));
            }
        },
    };
    opened.map_err(|e| Box::new(step_failed("namespaces", &operation, None, &e)))
}
