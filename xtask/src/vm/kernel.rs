//! The machine's kernel: Debian's, from its package, with the modules that the machine needs.
//!
//! It knows how to get and unpack the package, and which module needs which. It does not know what the modules are
//! for, and nothing of it is installed on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::remove;
use crate::run;

/// Always Debian's newest kernel without drivers for real hardware.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// What is loaded before the machine's disk is mounted, without what these need themselves.
pub const MODULES: &[&str] = &[
    // The disk.
    "virtio_pci",
    "virtio_blk",
    // File systems of containers, and devices that hold them.
    "overlay",
    "squashfs",
    "xfs",
    "vfat",
    "fuse",
    "loop",
    "nbd",
    // A disk that is not there, with all the nodes that a real one has.
    "sd_mod",
    "sg",
    "scsi_debug",
    // A network card, to be lent.
    "virtio_net",
    // Network.
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "macvlan",
    "ipvlan",
    "8021q",
    "tun",
    "ifb",
    "sch_tbf",
    "sch_ingress",
    "cls_u32",
    "cls_matchall",
    "act_mirred",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_ct",
    "nf_conntrack_netlink",
    "nft_nat",
    "nft_fib_inet",
    "nft_reject_inet",
    // `meta` of rules of the family bridge: without it they are refused (`nft_meta_select_ops`).
    "nft_meta_bridge",
    // What a system in a container asks for.
    "binfmt_misc",
    "autofs4",
];

/// A kernel that is unpacked in a folder.
pub struct Kernel(PathBuf);

impl Kernel {
    /// Gets and unpacks the kernel, unless it is there from the last time.
    pub fn get(place: &Path) -> Result<Self, String> {
        let unpacked = place.join("kernel");
        if image(&unpacked).is_some() {
            return Ok(Self(unpacked));
        }
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if !run::has(program) {
                return Err(format!(
                    "error: the kernel comes from a Debian package, and there is no {program}"
                ));
            }
        }
        // The package lists of a fresh machine are empty or old.
        let package = download(place).or_else(|first| {
            if !nix::unistd::geteuid().is_root() {
                return Err(first);
            }
            run::check(Command::new("apt-get").args(["update", "-qq"]))?;
            download(place)
        })?;
        let beside = place.join("kernel.new");
        remove(&beside)?;
        run::check(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&beside))?;
        remove(&unpacked)?;
        remove(&place.join("package"))?;
        fs::rename(&beside, &unpacked)
            .map_err(|e| format!("error: cannot rename '{}': {e}", beside.display()))?;
        image(&unpacked)
            .map(|_| Self(unpacked))
            .ok_or_else(|| format!("error: there is no kernel in '{}'", package.display()))
    }

    /// The kernel itself.
    pub fn image(&self) -> Result<PathBuf, String> {
        image(&self.0).ok_or_else(|| format!("error: there is no kernel in '{}'", self.0.display()))
    }

    /// Puts modules and all that they need into a folder, and returns their file names in the order in which they
    /// can be loaded.
    pub fn copy_modules(&self, wanted: &[&str], to: &Path) -> Result<Vec<String>, String> {
        let lib = self.0.join("lib/modules");
        let release =
            run::entries(&lib)?.pop().ok_or_else(|| format!("error: '{}' is empty", lib.display()))?;
        let builtin = release.join("modules.builtin");
        let builtin = fs::read_to_string(&builtin)
            .map_err(|e| format!("error: cannot read '{}': {e}", builtin.display()))?;
        let builtin: Vec<String> = builtin.lines().filter_map(|l| module_name(Path::new(l))).collect();
        let mut files = BTreeMap::new();
        find(&release.join("kernel"), &mut files)?;
        fs::create_dir_all(to).map_err(|e| format!("error: cannot make '{}': {e}", to.display()))?;
        let mut order = Vec::new();
        for name in wanted {
            load(name, &files, &builtin, to, &mut order)?;
        }
        Ok(order)
    }
}

/// Copies a module after those that it needs.
fn load(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    builtin: &[String],
    to: &Path,
    order: &mut Vec<String>,
) -> Result<(), String> {
    let file_name = format!("{name}.ko");
    if order.contains(&file_name) || builtin.iter().any(|b| b == name) {
        return Ok(());
    }
    let file = files.get(name).ok_or_else(|| format!("error: the kernel has no module '{name}'"))?;
    let bytes = read_module(file)?;
    for needed in needs(&bytes) {
        load(&needed, files, builtin, to, order)?;
    }
    let copy = to.join(&file_name);
    fs::write(&copy, bytes).map_err(|e| format!("error: cannot write '{}': {e}", copy.display()))?;
    order.push(file_name);
    Ok(())
}

/// A module as the kernel takes it; later releases of Debian keep them compressed.
fn read_module(file: &Path) -> Result<Vec<u8>, String> {
    if file.extension().is_some_and(|e| e == "xz") {
        let output = Command::new("xz")
            .arg("-dc")
            .arg(file)
            .output()
            .map_err(|e| format!("error: cannot run xz: {e}"))?;
        return if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(format!("error: xz cannot read '{}': {}", file.display(), output.status))
        };
    }
    fs::read(file).map_err(|e| format!("error: cannot read '{}': {e}", file.display()))
}

/// What a module says of those that it needs: an entry `depends=a,b` between zero bytes.
fn needs(module: &[u8]) -> Vec<String> {
    let entry = module.split(|b| *b == 0).find_map(|e| e.strip_prefix(b"depends="));
    let text = String::from_utf8_lossy(entry.unwrap_or_default()).into_owned();
    text.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect()
}

/// The name by which modules ask for one: that of the file, with underscores.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (name, ending) = name.split_once(".ko")?;
    ["", ".xz"].contains(&ending).then(|| name.replace('-', "_"))
}

fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), String> {
    for path in run::entries(dir)? {
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn download(place: &Path) -> Result<PathBuf, String> {
    let text = run::output(Command::new("apt-cache").args(["show", "--no-all-versions", PACKAGE]))?;
    let package =
        real_package(&text).ok_or_else(|| format!("error: the package {PACKAGE} depends on no kernel"))?;
    println!("getting {package}");
    let fresh = place.join("package");
    remove(&fresh)?;
    fs::create_dir_all(&fresh).map_err(|e| format!("error: cannot make '{}': {e}", fresh.display()))?;
    run::output(Command::new("apt-get").current_dir(&fresh).args(["download", "-qq"]).arg(&package))?;
    run::entries(&fresh)?.pop().ok_or_else(|| format!("error: {package} was not downloaded"))
}

fn image(unpacked: &Path) -> Option<PathBuf> {
    let is_kernel = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-"));
    run::entries(&unpacked.join("boot")).ok()?.into_iter().find(is_kernel)
}

/// The package with the kernel in it, of which `PACKAGE` is only another name, from what `apt-cache show` prints.
fn real_package(shown: &str) -> Option<String> {
    let depends = shown.lines().find_map(|l| l.strip_prefix("Depends:"))?;
    let names = depends.split([',', '|']).filter_map(|d| d.split_whitespace().next());
    names.into_iter().find(|n| n.starts_with("linux-image-")).map(str::to_owned)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn finds_the_kernel_behind_the_name() {
        let shown = "Package: linux-image-cloud-amd64\nProvides: linux-image-none\n\
                     Depends: linux-base (>= 4), linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(real_package(shown).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        let alternatives =
            "Depends: linux-image-6.12.1-cloud-amd64|linux-image-6.12.1-cloud-amd64-unsigned\n";
        assert_eq!(real_package(alternatives).as_deref(), Some("linux-image-6.12.1-cloud-amd64"));
        assert_eq!(real_package("Package: linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn modules_come_after_those_they_need() -> Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let modules = place.path().join("lib/modules/6.1");
        fs::create_dir_all(modules.join("kernel/deep"))?;
        fs::write(modules.join("modules.builtin"), "kernel/fs/ext4.ko\n")?;
        fs::write(modules.join("kernel/deep/a-disk.ko"), b"\x7fELF\0depends=ring,a-bus\0vermagic=6.1\0")?;
        fs::write(modules.join("kernel/deep/a-bus.ko"), b"\x7fELF\0depends=ring\0")?;
        fs::write(modules.join("kernel/ring.ko"), b"\x7fELF\0depends=\0")?;
        let (kernel, to) = (Kernel(place.path().to_owned()), place.path().join("to"));
        let order = kernel.copy_modules(&["ext4", "a_disk", "ring"], &to)?;
        assert_eq!(order, ["ring.ko", "a_bus.ko", "a_disk.ko"]);
        assert!(order.iter().all(|f| to.join(f).is_file()));
        assert_eq!(
            kernel.copy_modules(&["lost"], &to),
            Err("error: the kernel has no module 'lost'".to_owned())
        );
        Ok(())
    }
}
