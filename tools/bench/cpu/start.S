/* The way in for a multiboot loader, which leaves the processor in flat 32-bit mode: identity pages of 2 MiB, long mode,
   then run(program, turns) with both from the command line. A host that sets long mode up by itself enters at `enter`,
   with the program in RDI and the turns in RSI. The result goes to port 0xF4, which ends the machine. */
        .code32
        .section .multiboot, "a"
        .align 4
        .long 0x1BADB002, 0x00000003, -(0x1BADB002 + 0x00000003)

        .text
        .globl _start
_start: cli
        mov $stack_top, %esp
        mov %ebx, %ebp
        mov $tables, %edi
        mov $0x1000 * 6 / 4, %ecx
        xor %eax, %eax
        rep stosl
        movl $tables + 0x1007, tables
        movl $tables + 0x2007, tables + 0x1000
        movl $tables + 0x2000, %edi
        mov $0x87, %eax
        mov $512, %ecx
1:      mov %eax, (%edi)
        add $0x200000, %eax
        add $8, %edi
        loop 1b
        mov $tables, %eax
        mov %eax, %cr3
        mov $0x6A0, %eax            /* PAE, PGE, OSFXSR, OSXMMEXCPT */
        mov %eax, %cr4
        mov $0xC0000080, %ecx
        rdmsr
        or $0x901, %eax             /* SCE, LME, NXE */
        wrmsr
        mov $0x80000033, %eax       /* PG, NE, ET, MP, PE */
        mov %eax, %cr0
        lgdt gdt_pointer
        ljmp $8, $long_mode

        .code64
long_mode:
        mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov 16(%rbp), %esi          /* the command line: " NAME PROGRAM TURNS" */
        call number
        mov %rax, %rdi
        push %rdi
        call number
        pop %rdi
        mov %rax, %rsi
        .globl enter
enter:  mov $stack_top, %rsp
        call run
        mov $0xF4, %edx
        out %eax, %dx
2:      hlt
        jmp 2b

/* Skips to the next space and reads the decimal number behind it. */
number: lodsb
        cmp $32, %al
        jne number
        xor %eax, %eax
        xor %ecx, %ecx
3:      mov (%rsi), %cl
        sub $48, %cl
        cmp $9, %cl
        ja 4f
        imul $10, %rax, %rax
        add %rcx, %rax
        inc %rsi
        jmp 3b
4:      ret

/* #PF: makes the page present, and goes on. */
        .globl page_fault
page_fault:
        push %rax
        mov %cr2, %rax
        shr $12, %rax
        and $511, %eax
        orb $1, small_pages(, %rax, 8)
        pop %rax
        add $8, %rsp
        iretq

/* The kernel's side of SYSCALL. */
        .globl system_call
system_call:
        inc %rax
        sysretq

/* user(turns): as many SYSCALLs from ring 3; the last one, with RBX 0, stays. */
        .globl user
user:   mov %rdi, %rbx
        mov %rsp, kernel_stack
        mov $0xC0000081, %ecx       /* STAR: ring 0 at 8, ring 3 at 0x23 */
        xor %eax, %eax
        mov $0x00200008, %edx       /* SYSRET: CS 0x30, SS 0x28 */
        wrmsr
        mov $0xC0000082, %ecx
        lea system_call(%rip), %rax
        xor %edx, %edx
        wrmsr
        mov $0xC0000084, %ecx
        mov $0x200, %eax
        wrmsr
        xor %eax, %eax
        push $0x2B
        push $user_stack_top
        push $2
        push $0x33
        lea 5f(%rip), %rdx
        push %rdx
        iretq
5:      syscall
        dec %rbx
        jnz 5b
        int $0x80

        .globl back
back:   mov kernel_stack, %rsp
        ret

        .data
        .align 16
gdt:    .quad 0, 0x00209B0000000000, 0x0000930000000000
gdt_pointer:
        .word . - gdt - 1
        .quad gdt

        .bss
        .align 4096
        .globl tables, small_pages, kernel_stack, stack_top
tables: .skip 0x6000
small_pages:
        .skip 0x1000
        .skip 0x4000
stack_top:
        .skip 0x1000
user_stack_top:
kernel_stack:
        .skip 8
