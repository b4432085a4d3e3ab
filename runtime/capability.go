package runtime

import (
	"os"

	"golang.org/x/sys/unix"
)

// HasCapability reports whether one of our threads, hence all of them, has a
// capability in effect, such as unix.CAP_SYS_RESOURCE (capabilities(7)).
func HasCapability(capability int) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 64 bits in two halves
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, os.NewSyscallError("capget", err)
	}
	return data[capability/32%2].Effective&(1<<(capability%32)) != 0, nil
}
