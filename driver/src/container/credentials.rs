//! What a domain's services are told in confidence, in a form that a controller can be given.
//!
//! Does not know what a credential is for. Blocks while files are read.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use berth_domain::{Credential, CredentialSource};

use crate::files;
use crate::host::program::sealed;

/// Longest credential, as in systemd: `CREDENTIAL_SIZE_MAX`, 1 MiB.
const LONGEST: u64 = 1 << 20;

/// The credential as a file in memory that nobody can write to.
///
/// # Errors
/// Its file cannot be read, is not a regular one, or is longer than 1 MiB.
pub fn take(credential: &Credential) -> io::Result<OwnedFd> {
    let bytes = match &credential.source {
        CredentialSource::Value(text) => text.as_bytes().to_vec(),
        // A link is as good as what it leads to: secrets are often kept that way.
        CredentialSource::File(path) => files::read(&std::fs::canonicalize(Path::new(path))?, LONGEST)?,
    };
    sealed(c"berth-credential", &bytes)
}

#[cfg(test)]
mod test {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn of(source: CredentialSource) -> Credential {
        Credential { name: "x".into(), source }
    }

    #[test]
    fn files_are_read_and_their_limits_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("secret"), folder.path().join("link"));
        let of_path = |path: &Path| of(CredentialSource::File(path.display().to_string()));
        std::fs::write(&file, b"a\0b\n").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        for path in [&file, &link] {
            let mut taken = File::from(take(&of_path(path)).expect("taken"));
            let again = taken.write_all(b"x").expect_err("sealed");
            assert_eq!(again.kind(), io::ErrorKind::PermissionDenied);
            let text = std::fs::read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&taken)));
            assert_eq!(text.expect("read"), b"a\0b\n");
        }
        File::create(&file).and_then(|f| f.set_len(LONGEST + 1)).expect("made longer");
        assert!(take(&of_path(&file)).expect_err("too long").to_string().contains("longer than"));
        assert!(take(&of_path(folder.path())).is_err());
        assert!(take(&of_path(&folder.path().join("none"))).is_err());
        assert!(take(&of(CredentialSource::Value("v".into()))).is_ok());
    }
}
