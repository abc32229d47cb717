//! `cargo xtask package`: a Debian package of the release builds.
//!
//! It knows what dpkg wants of a package. What is in it is told by [`crate::files`].

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{self, Entry};
use crate::{dist, run};

/// The version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The scripts that dpkg runs.
const SCRIPTS: &[(&str, &str)] = &[
    ("postinst", include_str!("../debian/postinst")),
    ("prerm", include_str!("../debian/prerm")),
    ("postrm", include_str!("../debian/postrm")),
];

const OVERRIDES: &str = include_str!("../debian/lintian-overrides");

/// Without these some containers cannot be started, or are less confined.
const RECOMMENDS: &str = "apparmor, dbus, dnsmasq-base, nftables, polkitd, qemu-utils, systemd-container";

const DESCRIPTION: &str = "system containers from libvirt's domain XML
 Berth runs whole Linux systems in containers. It takes the documents of
 libvirt's LXC driver, and its command has the commands and the output of
 virsh. Containers have ids of their own, filters of system calls and AppArmor
 profiles, and go on when the daemon is restarted or upgraded.";

/// `package [--version V] [--dist DIR]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    let (mut version, mut built) = (VERSION, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or_else(|| format!("error: {word} needs a value"));
        match *word {
            "--version" => version = value()?,
            "--dist" => built = Some(absolute(value()?)?),
            other => return Err(format!("error: package does not know '{other}'")),
        }
    }
    let built = built.map_or_else(dist::build, Ok)?;
    println!("{}", make(&built, version)?.display());
    Ok(())
}

fn absolute(folder: &str) -> Result<PathBuf, String> {
    fs::canonicalize(folder).map_err(|e| format!("error: cannot use '{folder}': {e}"))
}

/// Makes a package of a build.
pub fn make(dist: &Path, version: &str) -> Result<PathBuf, String> {
    run::need(&[("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev"), ("gzip", "gzip")])?;
    let place = run::target().join("package");
    let root = place.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).map_err(|e| format!("error: cannot remove '{}': {e}", root.display()))?;
    }
    let mut all = files::list(dist, "/usr")?;
    all.extend(documents(version)?);
    for entry in &mut all {
        if entry.to.starts_with("/usr/share/man/") || entry.to.ends_with("/changelog") {
            entry.bytes = compress(&entry.bytes, &place)?;
            entry.to.push_str(".gz");
        }
        files::put(entry, &root)?;
    }
    let (depends, architecture) = (depends(dist, &place)?, architecture()?);
    let kib = all.iter().map(|e| e.bytes.len().div_ceil(1024)).sum::<usize>();
    let mut control: Vec<Entry> = SCRIPTS.iter().map(|(name, text)| script(name, text)).collect();
    control.push(plain("control", &fields(version, &architecture, kib, &depends)));
    let configuration = all.iter().filter(|e| e.is_configuration).map(|e| format!("{}\n", e.to));
    control.push(plain("conffiles", &configuration.collect::<String>()));
    control.push(plain("md5sums", &sums(&root, &all)?));
    for mut entry in control {
        entry.to = format!("/DEBIAN/{}", entry.to);
        files::put(&entry, &root)?;
    }
    set_mode(&root, 0o755)?;
    let file = place.join(format!("berth_{version}_{architecture}.deb"));
    run::output(
        Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).args([&root, &file]),
    )?;
    Ok(file)
}

/// What Debian wants to find in each package.
fn documents(version: &str) -> Result<Vec<Entry>, String> {
    let read = |name: &str| {
        let path = run::root().join(name);
        fs::read_to_string(&path).map_err(|e| format!("error: cannot read '{}': {e}", path.display()))
    };
    let doc = |name: &str| format!("/usr/share/doc/berth/{name}");
    // Rules of polkit and of AppArmor are the same licence as everything.
    let mit = indented(&read("LICENSE-MIT")?);
    let copyright = format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: berth\n\nFiles: *\nCopyright: The Berth authors\nLicense: Expat or Apache-2.0\n\n\
         License: Expat\n{mit}\nLicense: Apache-2.0\n \
         On Debian systems, the text of this licence is in\n /usr/share/common-licenses/Apache-2.0.\n"
    );
    let date = date()?;
    let changelog = format!(
        "berth ({version}) unstable; urgency=medium\n\n  * See CHANGES.md.\n\n -- {}  {date}\n",
        maintainer()
    );
    let mut all = vec![
        text(doc("copyright"), copyright),
        text(doc("changelog"), changelog),
        text(doc("CHANGES.md"), read("CHANGELOG.md")?),
        text("/usr/share/lintian/overrides/berth".into(), OVERRIDES.to_owned()),
    ];
    for page in pages()? {
        all.push(text(doc(&page), read(&format!("docs/{page}"))?));
    }
    let example = text(doc("examples/desktop.py"), read("docs/examples/desktop.py")?);
    all.push(Entry { mode: 0o755, ..example });
    Ok(all)
}

/// When the package was made, in the form of a changelog: now, or as who builds says, like for dpkg-deb.
fn date() -> Result<String, String> {
    let when =
        std::env::var("SOURCE_DATE_EPOCH").map_or_else(|_| "now".into(), |seconds| format!("@{seconds}"));
    run::output(Command::new("date").args(["-u", "-R", "-d", &when]))
}

/// Names of the pages of documentation that users read: not the decisions, which are for those who change Berth.
fn pages() -> Result<Vec<String>, String> {
    let all = run::entries(&run::root().join("docs"))?;
    let names = all.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    pages.sort();
    Ok(pages)
}

fn maintainer() -> &'static str {
    "Berth maintainers <maintainers@berth.example.org>"
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let line = if line.trim().is_empty() { "." } else { line };
        let _ = writeln!(all, " {line}");
        all
    })
}

fn fields(version: &str, architecture: &str, kib: usize, depends: &str) -> String {
    format!(
        "Package: berth\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {}\n\
         Installed-Size: {kib}\nDepends: {depends}\nRecommends: {RECOMMENDS}\nSuggests: mmdebstrap, python3-gi\n\
         Conflicts: libvirt-dbus\n\
         Section: admin\nPriority: optional\nHomepage: https://example.org/berth\nDescription: {DESCRIPTION}\n",
        maintainer()
    )
}

fn text(to: String, text: String) -> Entry {
    Entry { to, mode: 0o644, is_configuration: false, bytes: text.into_bytes() }
}

fn plain(name: &str, content: &str) -> Entry {
    text(name.to_owned(), content.to_owned())
}

fn script(name: &str, content: &str) -> Entry {
    Entry { mode: 0o755, ..plain(name, content) }
}

/// The packages that the programs' libraries are in, with the versions that they need.
fn depends(dist: &Path, place: &Path) -> Result<String, String> {
    // It wants to be in the source of a package.
    let source = place.join("source");
    let control = source.join("debian/control");
    control
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&control, "Source: berth\n\nPackage: berth\nArchitecture: any\n"))
        .map_err(|e| format!("error: cannot write '{}': {e}", control.display()))?;
    let programs = ["berthd", "virsh-lite"].map(|name| dist.join(name));
    let shown = run::output(Command::new("dpkg-shlibdeps").current_dir(&source).arg("-O").args(&programs))?;
    let libraries = shown
        .lines()
        .find_map(|l| l.strip_prefix("shlibs:Depends="))
        .ok_or("error: dpkg-shlibdeps does not tell the libraries of the programs")?;
    // For the scripts, and for kill(1) of the unit.
    Ok(format!(
        "{libraries}, init-system-helpers (>= 1.54~), systemd | systemd-standalone-sysusers, \
         systemd | systemd-standalone-tmpfiles, procps"
    ))
}

fn architecture() -> Result<String, String> {
    run::output(Command::new("dpkg").arg("--print-architecture"))
}

/// As `gzip -9n` does it: the same bytes each time.
fn compress(bytes: &[u8], place: &Path) -> Result<Vec<u8>, String> {
    let file = place.join("plain");
    fs::write(&file, bytes).map_err(|e| format!("error: cannot write '{}': {e}", file.display()))?;
    let output = Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .arg(&file)
        .output()
        .map_err(|e| format!("error: cannot run gzip: {e}"))?;
    if output.status.success() { Ok(output.stdout) } else { Err("error: gzip failed".into()) }
}

fn sums(root: &Path, all: &[Entry]) -> Result<String, String> {
    let names: Vec<&str> =
        all.iter().filter(|e| !e.is_configuration).map(|e| e.to.trim_start_matches('/')).collect();
    Ok(run::output(Command::new("md5sum").current_dir(root).args(names))? + "\n")
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    let now = path.metadata().map_err(|e| format!("error: cannot look at '{}': {e}", path.display()))?;
    if now.mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|e| format!("error: cannot change the mode of '{}': {e}", path.display()))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn control_has_what_dpkg_wants() {
        let text = fields("1.2~x", "amd64", 7, "libc6");
        for line in ["Package: berth", "Version: 1.2~x", "Installed-Size: 7", "Depends: libc6"] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
        }
        // A line of the description begins with a blank, and none is longer than a terminal.
        let description = text.split_once("Description: ").map(|(_, d)| d).unwrap_or_default();
        assert!(description.lines().skip(1).all(|l| l.starts_with(' ') && l.len() <= 80), "{description}");
    }

    #[test]
    fn pages_and_examples_are_in_it() -> Result<(), String> {
        let all = documents("1")?;
        for name in ["networks.md", "view.md", "interfaces.md", "examples/desktop.py", "changelog"] {
            assert!(all.iter().any(|e| e.to == format!("/usr/share/doc/berth/{name}")), "{name} is missing");
        }
        Ok(())
    }

    #[test]
    fn scripts_are_shell() -> Result<(), Box<dyn std::error::Error>> {
        for (name, text) in SCRIPTS {
            assert!(Command::new("sh").args(["-n", "-c", text]).status()?.success(), "{name}");
        }
        Ok(())
    }
}
