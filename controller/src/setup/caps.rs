//! Capabilities: what the bounding set loses, and that nothing is inherited (invariant I15). capabilities(7).

use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::failure::{Doing, Outcome, Step};

/// Takes everything out of the bounding set that the plan does not name. Exec of init gives it what is left.
pub fn limit(keep: i64) -> Outcome<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // Numbers that this kernel does not know are an error here, and there is nothing to do.
        let present = capability_is_in_bounding_set(capability).unwrap_or(false);
        if present && keep as u64 & (1 << number) == 0 {
            remove_capability_from_bounding_set(capability)
                .map_err(|e| Doing::new(Step::Capabilities, "PR_CAPBSET_DROP").failed(e))?;
        }
    }
    Ok(())
}

/// Empties the inheritable and the ambient set.
///
/// Sets nothing where nothing is inherited: AppArmor leaves what a profile denies out of the permitted set that capget(2)
/// tells, which would be set without it; exec would give that back from the bounding set, and the kernel takes the death
/// signal from who gains something there (`apparmor_capget`, `commit_creds`).
pub fn clear() -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Capabilities, operation);
    let mut sets = capabilities(None).map_err(|e| doing("capget").failed(e))?;
    if !sets.inheritable.is_empty() {
        sets.inheritable = CapabilitySet::empty();
        set_capabilities(None, sets).map_err(|e| doing("capset").failed(e))?;
    }
    clear_ambient_capability_set().map_err(|e| doing("PR_CAP_AMBIENT").failed(e))
}
