//! Who may ask what of a network when, as one pure value: no lock, no I/O.
//!
//! Does not know what a request carries. A network's task answers one request after the other, so a network is either
//! active or not.

/// A network as far as permission goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// It runs.
    pub active: bool,
    /// It has a definition.
    pub persistent: bool,
    /// It starts with the host.
    pub autostart: bool,
}

/// A request without what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Keep a definition.
    Define,
    /// Forget the definition.
    Undefine,
    /// Start a document.
    Create,
    /// Start the definition.
    Start,
    /// End it.
    Destroy,
    /// Start it with the host, or do not.
    SetAutostart,
    /// Change what runs.
    EditLive,
    /// Change what the next start uses.
    EditNext,
    /// Take a port.
    Plug,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// There is no such network.
    Absent,
    /// It is not active.
    NotActive,
    /// It is active.
    Active,
    /// It has no definition.
    Transient,
}

impl Lifecycle {
    /// Whether anybody knows it.
    pub fn known(self) -> bool {
        self.active || self.persistent
    }

    /// May this be asked now?
    pub fn decide(self, ask: Ask) -> Result<(), Denial> {
        let need = |good: bool, denial: Denial| if good { Ok(()) } else { Err(denial) };
        match ask {
            Ask::Define => Ok(()),
            Ask::Create => need(!self.active, Denial::Active),
            _ if !self.known() => Err(Denial::Absent),
            Ask::Undefine | Ask::SetAutostart | Ask::EditNext => need(self.persistent, Denial::Transient),
            Ask::Start => need(!self.active, Denial::Active),
            Ask::Destroy | Ask::EditLive | Ask::Plug => need(self.active, Denial::NotActive),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const ALL: [Ask; 9] = [
        Ask::Define,
        Ask::Undefine,
        Ask::Create,
        Ask::Start,
        Ask::Destroy,
        Ask::SetAutostart,
        Ask::EditLive,
        Ask::EditNext,
        Ask::Plug,
    ];

    #[test]
    fn every_state_has_an_answer() {
        let state = |active, persistent| Lifecycle { active, persistent, autostart: false };
        let allowed = |s: Lifecycle| ALL.map(|ask| s.decide(ask).is_ok());
        assert_eq!(
            allowed(state(false, false)),
            [true, false, true, false, false, false, false, false, false]
        );
        assert_eq!(allowed(state(false, true)), [true, true, true, true, false, true, false, true, false]);
        assert_eq!(allowed(state(true, true)), [true, true, false, false, true, true, true, true, true]);
        assert_eq!(allowed(state(true, false)), [true, false, false, false, true, false, true, false, true]);
        assert_eq!(state(false, false).decide(Ask::Start), Err(Denial::Absent));
        assert_eq!(state(true, false).decide(Ask::SetAutostart), Err(Denial::Transient));
    }
}
