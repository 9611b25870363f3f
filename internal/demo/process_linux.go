package demo

import "syscall"

// dieWithParent has the kernel kill the child when the demo dies.
func dieWithParent(a *syscall.SysProcAttr) *syscall.SysProcAttr {
	if a == nil {
		a = &syscall.SysProcAttr{}
	}
	// Its own group: an interrupt typed at the terminal goes to the demo, which
	// stops the child in good order.
	a.Setpgid = true
	a.Pdeathsig = syscall.SIGKILL
	return a
}
