package main

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is by how much the kernel may let a timer of this process be late, to serve
// some with one interrupt. Nothing here needs to be more exact.
const timerSlack = 500 * time.Microsecond

// slackTried tells the program that it has been executed anew for its timers' sake.
const slackTried = "TAILWATER_TIMER_SLACK"

// calm gives all threads of the process that slack. Go's monitor thread sleeps for 20 µs at a
// time while anything runs, and on virtual machines each of these timers costs more
// than what it watches over: half of what an agent takes that has little to do. That
// thread is there before main, and only what exec hands on reaches it; so the program
// executes itself, once. Where that does not work, it goes on as it is.
func calm() {
	if os.Getenv(slackTried) != "" {
		os.Unsetenv(slackTried)
		return
	}
	runtime.LockOSThread() // exec hands on this thread's
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || time.Duration(now) >= timerSlack {
		return
	}
	self, err := os.Executable() // not /proc/self/exe, which would be the process's name
	if err != nil {
		return
	}
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil {
		return
	}
	_ = syscall.Exec(self, os.Args, append(os.Environ(), slackTried+"=1"))
}
