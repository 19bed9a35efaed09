/* reads DEVICE SIZE COUNT random|sequential: reads that pass by the page cache, one after the other. Says how many
   microseconds of the guest's clock they took. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    long size = atol(argv[2]), count = atol(argv[3]);
    int random = !strcmp(argv[4], "random"), file = open(argv[1], O_RDONLY | O_DIRECT);
    void *buffer;
    if (file < 0 || posix_memalign(&buffer, 4096, size))
        return 1;
    off_t blocks = lseek(file, 0, SEEK_END) / size;
    unsigned long state = 88172645463325252ul;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < count; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        off_t block = random ? (off_t)(state % (unsigned long)blocks) : i % blocks;
        if (pread(file, buffer, size, block * size) != size)
            return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("READS %ld MICROSECONDS %ld\n", count,
           (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000);
    return 0;
}
