package runtime

import "path/filepath"

// ReadOffline is which CPUs this machine has and does not use: somebody switched
// them off, or SMT.
func ReadOffline(root string) (CPUSet, error) {
	dir := filepath.Join(root, "sys/devices/system/cpu")
	// "possible" is wider: what could be plugged in.
	present, found, err := readCPUSet(filepath.Join(dir, "present"))
	if err != nil || !found {
		return nil, err
	}
	online, found, err := readCPUSet(filepath.Join(dir, "online"))
	if err != nil || !found {
		return nil, err
	}
	return present.Minus(online), nil
}
