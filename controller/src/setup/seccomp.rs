//! The filter of system calls (invariant I12), as it came with the plan.
//!
//! It is installed while `CAP_SYS_ADMIN` of the container is still effective: without it the kernel takes filters only
//! of those who gave up new privileges, which a distribution's `su` needs. What is left of the set-up uses nothing that
//! a profile refuses. This module does not know what the program decides.

use berth_schemas::controller::LaunchPlan;
use berth_sys::seccomp::{Instruction, set_filter, set_filter_and_listen};
use rustix::io::Errno;
use rustix::thread::set_no_new_privs;

use crate::failure::{Doing, Outcome, Step};

use super::handshake::{Handshake, News};

/// `BPF_RET | BPF_K` of linux/bpf_common.h.
const RETURN: u16 = 0x06;
/// `SECCOMP_RET_USER_NOTIF` and `SECCOMP_RET_ALLOW`.
const ASK: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Installs it, and hands over where the controller is asked about calls.
pub fn install(plan: &LaunchPlan, handshake: &Handshake) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::SystemCalls, operation);
    if plan.no_new_privileges {
        set_no_new_privs(true).map_err(|e| doing("PR_SET_NO_NEW_PRIVS").failed(e))?;
    }
    if plan.system_call_filter.is_empty() {
        return Err(doing("seccomp").refused("the plan has no filter of system calls"));
    }
    let mut program: Vec<Instruction> = plan.system_call_filter.iter().map(|n| unpack(*n)).collect();
    let installed = match plan.own_sysinfo.then(|| set_filter_and_listen(&program)) {
        // There is a listener above us, as we are in a container ourselves, or this kernel knows none. What nobody is
        // asked about is as it would be without us; with nobody to ask there would be no such call.
        Some(Err(Errno::BUSY | Errno::INVAL)) => {
            for step in program.iter_mut().filter(|step| step.code == RETURN && step.k == ASK) {
                step.k = ALLOW;
            }
            set_filter(&program)
        }
        Some(listener) => listener.and_then(|listener| handshake.tell(&News::Calls(Some(listener)))),
        None => set_filter(&program),
    };
    installed.map_err(|e| match e {
        Errno::NOSYS => doing("seccomp").failed_because(e, "the kernel has no CONFIG_SECCOMP_FILTER"),
        e => doing("seccomp").failed(e),
    })
}

/// Code, both distances, constant, from the top.
fn unpack(packed: i64) -> Instruction {
    let bytes = packed.to_be_bytes();
    Instruction {
        code: u16::from_be_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}
