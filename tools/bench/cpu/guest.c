/* Programs that say how fast a processor is. Freestanding; see start.S for the way in. */
typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#define PROGRAM __attribute__((noinline))

extern u64 tables[], small_pages[];
extern void page_fault(void), system_call(void), back(void), user(u64 turns);
extern u64 flat(u64 turns);

static u8 bytes[65536], other[65536];
static u32 numbers[4096];
static double matrix[3][48][48];
static u64 gdt[9];
static struct { u16 low, selector, flags, middle; u32 high, zero; } idt[256];
static u8 tss[104] __attribute__((aligned(16)));

PROGRAM static u64 sieve(u64 turns)
{
    u64 count = 0;
    while (turns--) {
        for (u64 i = 0; i < sizeof bytes; i++)
            bytes[i] = 1;
        for (u64 i = 2; i < 256; i++)
            if (bytes[i])
                for (u64 j = i * i; j < sizeof bytes; j += i)
                    bytes[j] = 0;
        count = 0;
        for (u64 i = 2; i < sizeof bytes; i++)
            count += bytes[i];
    }
    return count;
}

PROGRAM static u64 copy(u64 turns)
{
    while (turns--) {
        for (u64 i = 0; i < sizeof bytes; i += 8)
            *(volatile u64 *)(other + i) = *(volatile u64 *)(bytes + i);
        bytes[turns % sizeof bytes] += 3;
    }
    return other[5];
}

PROGRAM static u64 crc(u64 turns)
{
    u32 sum = ~0u;
    while (turns--)
        for (u64 i = 0; i < 4096; i++) {
            sum ^= bytes[i];
            for (int k = 0; k < 8; k++)
                sum = sum >> 1 ^ (0xEDB88320u & -(sum & 1));
        }
    return sum;
}

PROGRAM static u64 fibonacci(u64 n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

PROGRAM static u64 calls(u64 turns)
{
    u64 sum = 0;
    while (turns--)
        sum += fibonacci(18);
    return sum;
}

PROGRAM static void quicksort(u32 *a, long low, long high)
{
    while (low < high) {
        u32 pivot = a[(low + high) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                u32 kept = a[i];
                a[i++] = a[j];
                a[j--] = kept;
            }
        }
        if (j - low < high - i) {
            quicksort(a, low, j);
            low = i;
        } else {
            quicksort(a, i, high);
            high = j;
        }
    }
}

PROGRAM static u64 sort(u64 turns)
{
    u64 sum = 0;
    while (turns--) {
        u32 x = 12345 + turns;
        for (int i = 0; i < 4096; i++)
            numbers[i] = x = x * 1664525u + 1013904223u;
        quicksort(numbers, 0, 4095);
        sum += numbers[100] ^ numbers[4000];
    }
    return sum;
}

PROGRAM __attribute__((target("sse2"))) static u64 floats(u64 turns)
{
    enum { N = 48 };
    double sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            matrix[0][i][j] = i + 0.5 * j;
            matrix[1][i][j] = 1.0 / (1 + i + j);
        }
    while (turns--) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double cell = 0;
                for (int k = 0; k < N; k++)
                    cell += matrix[0][i][k] * matrix[1][k][j];
                matrix[2][i][j] = cell;
            }
        sum += matrix[2][turns % N][7] / 3.0;
    }
    return (u64)sum;
}

PROGRAM static u64 faults(u64 turns)
{
    volatile u8 *page = (u8 *)0x40000000;
    u64 sum = 0;
    while (turns--) {
        for (int i = 0; i < 512; i++)
            small_pages[i] = ((u64)bytes & ~0xFFFul) | 2;
        __asm__ volatile("mov %%cr3, %%rax\n mov %%rax, %%cr3" ::: "rax", "memory");
        for (int i = 0; i < 512; i++)
            sum += page[i * 4096];
    }
    return sum;
}

PROGRAM static u64 system_calls(u64 turns)
{
    if (turns)
        user(turns);
    return 0;
}

PROGRAM static u64 ports(u64 turns)
{
    while (turns--)
        __asm__ volatile("outb %%al, $0x80" :: "a"((u8)turns));
    return 0;
}

static void gate(int vector, void (*handler)(void), int privilege)
{
    u64 address = (u64)handler;
    idt[vector].low = address;
    idt[vector].selector = 8;
    idt[vector].flags = 0x8E00 | privilege << 13;
    idt[vector].middle = address >> 16;
    idt[vector].high = address >> 32;
}

extern u8 stack_top[];

static void set_up(void)
{
    struct { u16 limit; u64 base; } __attribute__((packed)) pointer;
    u64 base = (u64)tss;
    gdt[1] = 0x00209B0000000000;
    gdt[2] = 0x0000930000000000;
    gdt[3] = 103 | (base & 0xFFFFFF) << 16 | 0x89ul << 40 | (base >> 24 & 0xFF) << 56;
    gdt[4] = base >> 32;
    gdt[5] = 0x0000F30000000000;
    gdt[6] = 0x0020FB0000000000;
    *(u64 *)(tss + 4) = (u64)stack_top - 0x2000;
    tss[102] = 104;
    gate(14, page_fault, 0);
    gate(0x80, back, 3);
    pointer.limit = sizeof gdt - 1;
    pointer.base = (u64)gdt;
    __asm__ volatile("lgdt %0" :: "m"(pointer));
    pointer.limit = sizeof idt - 1;
    pointer.base = (u64)idt;
    __asm__ volatile("lidt %0\n ltr %%ax" :: "m"(pointer), "a"(24));
    /* 4 KiB pages at 1 GiB; the first two tables are those of start.S, or the host's. */
    u64 *directory = (u64 *)((u64)tables + 0x3000);
    ((u64 *)((u64)tables + 0x1000))[1] = (u64)directory | 7;
    directory[0] = (u64)small_pages | 7;
}

u64 run(u64 program, u64 turns)
{
    set_up();
    switch (program) {
    case 0: return sieve(turns);
    case 1: return copy(turns);
    case 2: return crc(turns);
    case 3: return calls(turns);
    case 4: return sort(turns);
    case 5: return floats(turns);
    case 6: return faults(turns);
    case 7: return system_calls(turns);
    case 8: return ports(turns);
    default: return flat(turns);
    }
}
