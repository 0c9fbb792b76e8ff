package agent

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unmapStart lets go of the pages of the program itself, of which a start touches twice as
// many as what comes after it. They stay in the kernel's cache, and those that are needed
// are mapped again as they are touched. Errors mean that nothing changes.
func unmapStart() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// 00400000-00e9a000 r-xp 00000000 fe:00 123456    /usr/bin/tailwater
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != program || strings.Contains(fields[1], "w") {
			continue
		}
		begin, end, _ := strings.Cut(fields[0], "-")
		from, errFrom := strconv.ParseUint(begin, 16, 64)
		to, errTo := strconv.ParseUint(end, 16, 64)
		if errFrom == nil && errTo == nil && from < to {
			unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_DONTNEED)
		}
	}
}
