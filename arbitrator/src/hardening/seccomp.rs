//! Which system calls the process may no longer make.
//!
//! A deny-list that answers EPERM, not an allow-list: an allow-list would have to follow every
//! change of the C library, and its first omission would kill a voter in the field. Denied is what
//! turns a hole into a way on: starting programs, looking into other processes, mounting, loading
//! code into the kernel, changing namespaces, clocks or the machine's state.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};

use super::Step;

const DENIED: &[libc::c_long] = &[
    // programs
    libc::SYS_execve,
    libc::SYS_execveat,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // file systems
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_acct,
    // the kernel
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_reboot,
    libc::SYS_syslog,
    // keys and namespaces
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    // clocks
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

/// Denies them in all threads. Needs `no_new_privs`.
pub(crate) fn deny_calls() -> Step {
    const NAME: &str = "seccomp";
    match program().and_then(|p| apply_filter_all_threads(&p).map_err(|e| e.to_string())) {
        Ok(()) => Step::applied(NAME, format!("{} system calls answer EPERM", DENIED.len())),
        Err(why) => Step::missing(NAME, why),
    }
}

fn program() -> Result<BpfProgram, String> {
    let arch: TargetArch =
        std::env::consts::ARCH.try_into().map_err(|_| "not for this architecture".to_owned())?;
    // Without conditions: the call itself.
    let rules: BTreeMap<i64, _> = DENIED.iter().map(|&call| (call, vec![])).collect();
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch)
        .and_then(TryInto::try_into)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_for_this_machine() {
        assert!(!program().unwrap().is_empty());
    }
}
