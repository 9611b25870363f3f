//go:build !linux

package demo

import "syscall"

// dieWithParent leaves it to the pipe that WatchParent reads.
func dieWithParent(a *syscall.SysProcAttr) *syscall.SysProcAttr { return a }
