//! Puts the release builds where a package would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::dist;

/// The AppArmor profiles of the programs.
const PROFILES: [(&str, &str); 2] = [
    ("berthd", include_str!("../../apparmor/profiles/berthd")),
    ("berth-controller", include_str!("../../apparmor/profiles/berth-controller")),
];

/// `install --destdir DIR [--prefix /usr]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    let (mut destdir, mut prefix) = (None, "/usr");
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or_else(|| format!("error: {word} needs a value"));
        match *word {
            "--destdir" => destdir = Some(value()?),
            "--prefix" => prefix = value()?,
            other => return Err(format!("error: install does not know '{other}'")),
        }
    }
    let destdir =
        destdir.ok_or("error: install needs --destdir DIR; '--destdir /' installs into this system")?;
    if !prefix.starts_with('/') {
        return Err(format!("error: the prefix '{prefix}' is not an absolute path"));
    }
    let dist = dist::build()?;
    let under = |path: &str| PathBuf::from(format!("{}{path}", destdir.trim_end_matches('/')));
    let usr = |path: &str| under(&format!("{}{path}", prefix.trim_end_matches('/')));
    let version = "_virsh-lite";
    for (from, to, mode) in [
        ("berthd", usr("/sbin/berthd"), 0o755),
        ("berth-controller", usr("/libexec/berth-controller"), 0o755),
        ("virsh-lite", usr("/bin/virsh-lite"), 0o755),
        ("man/berthd.8", usr("/share/man/man8/berthd.8"), 0o644),
        ("man/virsh-lite.1", usr("/share/man/man1/virsh-lite.1"), 0o644),
        ("man/berth-domain.5", usr("/share/man/man5/berth-domain.5"), 0o644),
        ("completions/bash", usr("/share/bash-completion/completions/virsh-lite"), 0o644),
        ("completions/zsh", usr("/share/zsh/vendor-completions").join(version), 0o644),
        ("completions/fish", usr("/share/fish/vendor_completions.d/virsh-lite.fish"), 0o644),
    ] {
        put(&dist.join(from), &to, mode)?;
    }
    for (name, text) in PROFILES {
        let to = under(&format!("/etc/apparmor.d/{name}"));
        put_text(text, &to)?;
    }
    for (dir, mode) in [
        ("/etc/berth", 0o755),
        ("/etc/berth/domains", 0o700),
        ("/var/lib/berth", 0o700),
        ("/var/log/berth", 0o700),
    ] {
        let dir = under(dir);
        fs::create_dir_all(&dir)
            .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)))
            .map_err(|e| format!("error: cannot make '{}': {e}", dir.display()))?;
        println!("{}", dir.display());
    }
    Ok(())
}

fn put_text(text: &str, to: &Path) -> Result<(), String> {
    to.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(to, text))
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(0o644)))
        .map_err(|e| format!("error: cannot install '{}': {e}", to.display()))?;
    println!("{}", to.display());
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<(), String> {
    let install = || {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut beside = to.as_os_str().to_owned();
        beside.push(".new");
        fs::copy(from, &beside)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
        fs::rename(&beside, to)
    };
    install().map_err(|e| format!("error: cannot install '{}': {e}", to.display()))?;
    println!("{}", to.display());
    Ok(())
}
