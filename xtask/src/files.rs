//! What is installed, and where: one list for `install` and `package`.
//!
//! It does not know whether the files go into this system, a folder or a package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::run;

/// One file of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes.
    pub to: String,
    /// Its mode.
    pub mode: u32,
    /// Whether the administrator may change it.
    pub is_configuration: bool,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Programs and documents of the release builds: where they are in there and where they go below the prefix.
const BUILT: &[(&str, &str, u32)] = &[
    ("berthd", "sbin/berthd", 0o755),
    ("berth-controller", "libexec/berth-controller", 0o755),
    ("berth-view", "libexec/berth-view", 0o755),
    ("virsh-lite", "bin/virsh-lite", 0o755),
    ("man/berthd.8", "share/man/man8/berthd.8", 0o644),
    ("man/virsh-lite.1", "share/man/man1/virsh-lite.1", 0o644),
    ("man/berth-domain.5", "share/man/man5/berth-domain.5", 0o644),
    ("man/berth-network.5", "share/man/man5/berth-network.5", 0o644),
    ("completions/bash", "share/bash-completion/completions/virsh-lite", 0o644),
    ("completions/zsh", "share/zsh/vendor-completions/_virsh-lite", 0o644),
    ("completions/fish", "share/fish/vendor_completions.d/virsh-lite.fish", 0o644),
];

/// Files of the tree for the service manager.
const UNITS: &[(&str, &str)] = &[
    ("berthd.service", "lib/systemd/system/berthd.service"),
    ("berthd.socket", "lib/systemd/system/berthd.socket"),
    ("berth-guests.service", "lib/systemd/system/berth-guests.service"),
    ("berth.tmpfiles", "lib/tmpfiles.d/berth.conf"),
    ("berth.sysusers", "lib/sysusers.d/berth.conf"),
];

/// The AppArmor profiles of the programs.
const PROFILES: &[&str] = &["berthd", "berth-controller"];

/// Everything, with programs and documents from the folder of a build.
pub fn list(dist: &Path, prefix: &str) -> Result<Vec<Entry>, String> {
    let prefix = prefix.trim_end_matches('/');
    let data = run::root().join("driver/data");
    let mut all = Vec::new();
    for (from, to, mode) in BUILT {
        all.push(entry(&dist.join(from), format!("{prefix}/{to}"), *mode)?);
    }
    for (from, to) in UNITS {
        let mut unit = entry(&data.join("systemd").join(from), format!("{prefix}/{to}"), 0o644)?;
        unit.bytes = at_prefix(&unit.bytes, prefix);
        all.push(unit);
    }
    all.extend(bus(&data.join("dbus"), prefix)?);
    // Those of the specification are not ours to install.
    let interfaces = bus(&run::root().join("schemas/dbus"), prefix)?;
    all.extend(interfaces.into_iter().filter(|e| !e.to.contains("/org.freedesktop.")));
    for name in PROFILES {
        let from = run::root().join("apparmor/profiles").join(name);
        if from.is_file() {
            all.push(configuration(entry(&from, format!("/etc/apparmor.d/{name}"), 0o644)?));
        }
    }
    let settings = data.join("systemd/berthd.toml");
    all.push(configuration(entry(&settings, "/etc/berth/berthd.toml".into(), 0o644)?));
    Ok(all)
}

/// What belongs to the system's bus goes where its kind is looked for.
fn bus(folder: &Path, prefix: &str) -> Result<Vec<Entry>, String> {
    let Ok(files) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = files.flatten().map(|f| f.path()).filter(|p| p.is_file()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = match path.extension().and_then(|e| e.to_str()) {
            Some("conf") => "share/dbus-1/system.d",
            Some("service") => "share/dbus-1/system-services",
            Some("xml") => "share/dbus-1/interfaces",
            Some("policy") => "share/polkit-1/actions",
            Some("rules") => "share/polkit-1/rules.d",
            _ => return Err(format!("error: nobody looks for a file like '{}'", path.display())),
        };
        let mut found = entry(&path, format!("{prefix}/{place}/{name}"), 0o644)?;
        found.bytes = at_prefix(&found.bytes, prefix);
        all.push(found);
    }
    Ok(all)
}

fn entry(from: &Path, to: String, mode: u32) -> Result<Entry, String> {
    let bytes = fs::read(from).map_err(|e| format!("error: cannot read '{}': {e}", from.display()))?;
    Ok(Entry { to, mode, is_configuration: false, bytes })
}

fn configuration(entry: Entry) -> Entry {
    Entry { is_configuration: true, ..entry }
}

/// Names our programs by where they are installed.
fn at_prefix(text: &[u8], prefix: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let text = text.replace("@sbindir@", &format!("{prefix}/sbin"));
    text.replace("@bindir@", &format!("{prefix}/bin")).into_bytes()
}

/// Puts a file below a folder. It takes the place of an old one at once: a program that runs cannot be written to.
pub fn put(entry: &Entry, destdir: &Path) -> Result<PathBuf, String> {
    let to = destdir.join(entry.to.trim_start_matches('/'));
    let mut beside = to.as_os_str().to_owned();
    beside.push(".new");
    let install = || {
        if let Some(parent) = to.parent() {
            make_folders(parent)?;
        }
        fs::write(&beside, &entry.bytes)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(entry.mode))?;
        fs::rename(&beside, &to)
    };
    install().map_err(|e| format!("error: cannot install '{}': {e}", to.display()))?;
    Ok(to)
}

/// Folders that everybody may enter, whatever the umask is.
fn make_folders(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
    for folder in missing.into_iter().rev() {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn units_name_the_programs_that_are_installed() {
        let unit = "ExecStart=@sbindir@/berthd\nExecStop=@bindir@/virsh-lite stop-all\n";
        let text = String::from_utf8(at_prefix(unit.as_bytes(), "/usr/local")).unwrap_or_default();
        assert_eq!(text, "ExecStart=/usr/local/sbin/berthd\nExecStop=/usr/local/bin/virsh-lite stop-all\n");
    }

    #[test]
    fn what_is_of_the_bus_goes_by_its_kind() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        assert_eq!(bus(&dir.path().join("none"), "/usr"), Ok(Vec::new()));
        fs::write(dir.path().join("org.x.conf"), "@sbindir@")?;
        let all = bus(dir.path(), "/usr")?;
        assert_eq!(all.first().map(|e| e.to.as_str()), Some("/usr/share/dbus-1/system.d/org.x.conf"));
        assert_eq!(all.first().map(|e| e.bytes.as_slice()), Some(&b"/usr/sbin"[..]));
        fs::write(dir.path().join("readme"), "")?;
        assert!(bus(dir.path(), "/usr").is_err_and(|e| e.contains("readme")));
        Ok(())
    }
}
