//! What the firmware says about the machine (SMBIOS), as libvirt's document.
//!
//! Does not know who asks. Blocks for as long as it takes to read some files of the kernel.

use std::fs;
use std::path::Path;

use berth_domain::tree::is_xml_char;
use berth_schemas::node::Error;

use crate::host::node::escape;

/// Where the kernel has it.
pub const FOLDER: &str = "/sys/class/dmi/id";

/// An element, and its entries with the kernel's files.
type Table = (&'static str, &'static [(&'static str, &'static str)]);

/// In libvirt's order.
const TABLES: &[Table] = &[
    (
        "bios",
        &[
            ("vendor", "bios_vendor"),
            ("version", "bios_version"),
            ("date", "bios_date"),
            ("release", "bios_release"),
        ],
    ),
    (
        "system",
        &[
            ("manufacturer", "sys_vendor"),
            ("product", "product_name"),
            ("version", "product_version"),
            ("serial", "product_serial"),
            ("uuid", "product_uuid"),
            ("sku", "product_sku"),
            ("family", "product_family"),
        ],
    ),
    (
        "baseBoard",
        &[
            ("manufacturer", "board_vendor"),
            ("product", "board_name"),
            ("version", "board_version"),
            ("serial", "board_serial"),
            ("asset", "board_asset_tag"),
        ],
    ),
    (
        "chassis",
        &[
            ("manufacturer", "chassis_vendor"),
            ("version", "chassis_version"),
            ("serial", "chassis_serial"),
            ("asset", "chassis_asset_tag"),
        ],
    ),
];

/// The document.
pub fn xml(folder: &Path) -> Result<String, Error> {
    let mut xml = String::from("<sysinfo type='smbios'>\n");
    let empty = xml.len();
    for (element, entries) in TABLES {
        let mut inside = String::new();
        for (name, file) in *entries {
            // The firmware may say nothing about it, in any encoding.
            let Ok(bytes) = fs::read(folder.join(file)) else { continue };
            let text: String = String::from_utf8_lossy(&bytes).chars().filter(|c| is_xml_char(*c)).collect();
            if !text.trim().is_empty() {
                inside.push_str(&format!("    <entry name='{name}'>{}</entry>\n", escape(text.trim())));
            }
        }
        if !inside.is_empty() {
            xml.push_str(&format!("  <{element}>\n{inside}  </{element}>\n"));
        }
    }
    if xml.len() == empty {
        // libvirt's sentence.
        return Err(Error::NotAvailable { message: "Host SMBIOS information is not available".into() });
    }
    xml.push_str("</sysinfo>\n");
    Ok(xml)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_the_firmware_says_is_a_document() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(xml(folder.path()).is_err());
        for (file, text) in
            [("bios_vendor", "A & B\n"), ("product_serial", "7\u{1}\n"), ("product_sku", " \n")]
        {
            fs::write(folder.path().join(file), text).expect("written");
        }
        let expected = "<sysinfo type='smbios'>\n  <bios>\n    <entry name='vendor'>A &amp; B</entry>\n  </bios>\n  \
                        <system>\n    <entry name='serial'>7</entry>\n  </system>\n</sysinfo>\n";
        assert_eq!(xml(folder.path()).as_deref(), Ok(expected));
    }
}
