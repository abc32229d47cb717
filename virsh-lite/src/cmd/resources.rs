//! What the commands about limits have in common: amounts, the definitions that are meant, asking and setting.
//!
//! Does not know what a limit does.

use berth_schemas::domain::{
    Affect, GetResourcesIn, GetResourcesOut, Method, ResourceChange, Resources, SetResourcesIn,
    SetResourcesOut,
};

use crate::error::Failure;
use crate::grammar::Opt;
use crate::parse::Args;
use crate::session::{DomainRef, Session};

/// What the next start uses.
pub const CONFIG: Opt = Opt::flag("config", "in what the next start uses");
/// What runs.
pub const LIVE: Opt = Opt::flag("live", "in what runs now");
/// What runs, or else what the next start uses.
pub const CURRENT: Opt = Opt::flag("current", "in what runs now, or else in the definition");

/// The definitions that the options mean, or `otherwise`.
pub fn affect(args: &Args, otherwise: Affect) -> Result<Vec<Affect>, Failure> {
    args.exclusive("current", "live")?;
    args.exclusive("current", "config")?;
    let choices = [("current", Affect::Current), ("live", Affect::Live), ("config", Affect::Config)];
    let mut found: Vec<Affect> =
        choices.into_iter().filter(|(name, _)| args.has(name)).map(|(_, a)| a).collect();
    if found.is_empty() {
        found.push(otherwise);
    }
    Ok(found)
}

/// What the domain may use, in the definition that is meant; with both `--live` and `--config` it is what runs.
pub fn get(
    session: &mut Session,
    domain: &DomainRef,
    affect: Affect,
    what: &str,
) -> Result<Resources, Failure> {
    let ask = GetResourcesIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        id: None,
        affect: Some(affect),
    };
    match session.call::<_, GetResourcesOut>(Method::GetResources, &ask) {
        Ok(out) => Ok(out.resources),
        Err(error) => Err(session.failure(what, domain, &error)),
    }
}

/// Changes what the domain may use.
pub fn set(
    session: &mut Session,
    domain: &DomainRef,
    change: ResourceChange,
    affect: Vec<Affect>,
    what: &str,
) -> Result<(), Failure> {
    let ask = SetResourcesIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        id: None,
        change,
        affect: Some(affect),
    };
    let done = session.call::<_, SetResourcesOut>(Method::SetResources, &ask);
    done.map(drop).map_err(|e| session.failure(what, domain, &e))
}

/// One line of a list of parameters.
pub fn row(session: &mut Session, name: &str, value: &str) {
    session.out.print(&format!("{name:<15}: {value}\n"));
}

/// An amount with a unit, KiB where it has none, in KiB. -1, and the word that is printed for it, mean no limit where that
/// is allowed.
pub fn kib(args: &Args, option: &str, unlimited: bool) -> Result<Option<i64>, Failure> {
    let Some(text) = args.text(option) else { return Ok(None) };
    if unlimited && matches!(text, "-1" | "unlimited") {
        return Ok(Some(-1));
    }
    match amount(text) {
        Some(bytes) => Ok(i64::try_from(bytes.div_ceil(1024)).ok()),
        None => Err(Failure::line(format!(
            "Scaled numeric value '{text}' for <--{option}> option is malformed or out of range"
        ))),
    }
}

fn amount(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit = text.get(digits..)?.to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" => 1024,
        "b" | "byte" | "bytes" => 1,
        unit => {
            let power = u32::try_from("kmgtpe".find(unit.chars().next()?)?).ok()? + 1;
            match unit.get(1..)? {
                "" | "ib" => 1024u64.checked_pow(power)?,
                "b" => 1000u64.checked_pow(power)?,
                _ => return None,
            }
        }
    };
    number.checked_mul(factor).filter(|n| *n <= i64::MAX.cast_unsigned())
}

/// A whole number, which may be negative.
pub fn number(text: &str, option: &str) -> Result<i64, Failure> {
    let bad = || format!("Numeric value '{text}' for <{option}> option is malformed or out of range");
    text.parse().map_err(|_| Failure::line(bad()))
}

#[cfg(test)]
mod test {
    use super::amount;

    #[test]
    fn amounts_are_in_kib_unless_they_say_otherwise() {
        for (text, bytes) in [
            ("1", Some(1024)),
            ("5b", Some(5)),
            ("2KiB", Some(2048)),
            ("2KB", Some(2000)),
            ("3m", Some(3 << 20)),
            ("1G", Some(1 << 30)),
            ("", None),
            ("-1", None),
            ("1x", None),
            ("9E", None),
        ] {
            assert_eq!(amount(text), bytes, "{text}");
        }
    }
}
