package main

import (
	"fmt"
	"time"
)

// formatBytes is a size in three or four characters: 812K, 15M, 1.5G.
func formatBytes(n uint64) string {
	v, units := float64(n), "BKMGT"
	for v >= 999.5 && len(units) > 1 {
		v, units = v/1024, units[1:]
	}
	return formatScaled(v, units[:1])
}

// formatBits is a rate in bits per second: 0, 812k, 2.5M, 1.2G.
func formatBits(v float64) string {
	if v < 1 {
		return "0"
	}
	units := []string{"", "k", "M", "G", "T"}
	for v >= 999.5 && len(units) > 1 {
		v, units = v/1000, units[1:]
	}
	return formatScaled(v, units[0])
}

// formatScaled shows one decimal below ten, where it tells something.
func formatScaled(v float64, unit string) string {
	if v < 9.95 && unit != "" && unit != "B" {
		return fmt.Sprintf("%.1f%s", v, unit)
	}
	return fmt.Sprintf("%.0f%s", v, unit)
}

// formatUptime shows the two largest units: 5s, 3m10s, 2h05m, 4d03h.
func formatUptime(d time.Duration) string {
	s := int(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
	}
}
