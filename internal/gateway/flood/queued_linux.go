package flood

import (
	"net"

	"golang.org/x/sys/unix"
)

// queued is how many bytes the kernel holds that the peer has not
// acknowledged (tcp(7), SIOCOUTQ); 0 if that cannot be told.
func queued(c net.Conn) (n int) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}
