//! What the kernel would do with a system call under a filter, found by running the filter: calls
//! with any arguments can be asked about, and none is made.

use nix::libc;
use seccompiler::BpfProgram;

/// Whether `program` lets `call` with `arguments` pass (classic BPF over `struct seccomp_data`,
/// seccomp(2)).
///
/// # Panics
/// On an instruction that seccompiler does not write.
pub(crate) fn passes(program: &BpfProgram, call: i64, arguments: [u64; 6]) -> bool {
    let data = seccomp_data(call, arguments);
    let (mut at, mut value) = (0usize, 0u32);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            // BPF_LD | BPF_W | BPF_ABS
            0x20 => {
                let from = usize::try_from(step.k).expect("an offset");
                let word = data[from..from + 4].try_into().expect("four bytes");
                value = u32::from_ne_bytes(word);
            }
            // BPF_ALU | BPF_AND | BPF_K
            0x54 => value &= step.k,
            // BPF_JMP | BPF_JA
            0x05 => at += usize::try_from(step.k).expect("an offset"),
            // BPF_JMP with BPF_JEQ, BPF_JGT, BPF_JGE, and BPF_K
            0x15 => at += jump(value == step.k),
            0x25 => at += jump(value > step.k),
            0x35 => at += jump(value >= step.k),
            // BPF_RET | BPF_K
            0x06 if step.k == libc::SECCOMP_RET_ALLOW => return true,
            0x06 if step.k == libc::SECCOMP_RET_KILL_PROCESS => return false,
            other => panic!("instruction {other:#x} with {:#x}", step.k),
        }
    }
}

/// The call as the filter sees it: number, architecture, instruction pointer, arguments.
fn seccomp_data(call: i64, arguments: [u64; 6]) -> Vec<u8> {
    /// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 of linux/audit.h.
    const HERE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let number = i32::try_from(call).expect("a system call's number");
    let mut data = number.to_ne_bytes().to_vec();
    data.extend(HERE.to_ne_bytes());
    data.extend(0u64.to_ne_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
    data
}
