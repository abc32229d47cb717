//! The D-Bus interfaces: their names, and their introspection data, which is the source of truth.
//!
//! Does not know any bus. The first three are those of libvirt-dbus, as far as containers have what is in them.

/// One interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: &'static str,
    /// The file: a `<node>` with one `<interface>`.
    pub file: &'static str,
}

impl Interface {
    /// The `<interface>` element, indented by two spaces, with the end of its last line.
    pub fn element(&self) -> &'static str {
        let start = self.file.find("  <interface").unwrap_or(0);
        let end = self.file.rfind("</node>").unwrap_or(self.file.len());
        self.file.get(start..end).unwrap_or_default()
    }
}

macro_rules! interfaces {
    ($($(#[$meta:meta])* $const:ident = $name:literal;)+) => {
        $($(#[$meta])*
        pub const $const: Interface =
            Interface { name: $name, file: include_str!(concat!("../dbus/", $name, ".xml")) };)+
        /// All of them.
        pub const ALL: &[Interface] = &[$($const),+];
    };
}

interfaces! {
    /// The host.
    CONNECT = "org.libvirt.Connect";
    /// One domain.
    DOMAIN = "org.libvirt.Domain";
    /// One virtual network.
    NETWORK = "org.libvirt.Network";
    /// What those have no word for.
    BERTH_DOMAIN = "io.berth.Domain";
    /// The bus's own.
    INTROSPECTABLE = "org.freedesktop.DBus.Introspectable";
    /// The bus's own.
    PEER = "org.freedesktop.DBus.Peer";
    /// The bus's own.
    PROPERTIES = "org.freedesktop.DBus.Properties";
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn each_file_is_one_interface_of_its_name() {
        for interface in ALL {
            let element = interface.element();
            assert!(
                element.starts_with(&format!("  <interface name=\"{}\">\n", interface.name)),
                "{element}"
            );
            assert!(element.ends_with("  </interface>\n") && element.matches("<interface").count() == 1);
        }
    }
}
