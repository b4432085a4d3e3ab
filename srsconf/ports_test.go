package srsconf

import (
	"slices"
	"strings"
	"testing"
)

func TestPortPlanIsDisjointAndStable(t *testing.T) {
	const origins = 128
	plan := PortPlan{}
	seen := map[int]int{}
	for slot := range origins {
		for _, port := range plan.Ports(slot).List() {
			if other, taken := seen[port]; taken {
				t.Fatalf("port %d belongs to slots %d and %d", port, other, slot)
			}
			seen[port] = slot
			if port < DefaultPortBase || port > plan.Last(origins) {
				t.Fatalf("port %d of slot %d is outside of %d-%d", port, slot, DefaultPortBase, plan.Last(origins))
			}
		}
	}
	// Adoption and operators rely on these numbers: a change breaks a running machine.
	if got, want := plan.Ports(7), (Ports{20070, 20071, 20072, 20073, 20074, 20075}); got != want {
		t.Errorf("slot 7: %v", got)
	}
	if got := plan.Last(origins); got != 21279 {
		t.Errorf("last %d", got)
	}
	if got := (PortPlan{Base: 5000}).Ports(1).RTMP; got != 5010 {
		t.Errorf("base 5000, slot 1: %d", got)
	}
}

func TestPortPlanValidate(t *testing.T) {
	const lo, hi = 32768, 60999
	tests := []struct {
		name     string
		plan     PortPlan
		origins  int
		lo, hi   int
		reserved []int
		want     []string // parts of the error; none: valid
	}{
		{"default", PortPlan{}, 128, lo, hi, []int{1935, 8080, 1985, 8000, 10080, 12025}, nil},
		{"up to the range", PortPlan{32768 - 10}, 1, lo, hi, nil, nil},
		{"one port into the range", PortPlan{32768 - 9}, 1, lo, hi, nil, []string{"32759-32768", "ephemeral range 32768-60999", "base 20000 would fit"}},
		{"in the range", PortPlan{40000}, 128, lo, hi, nil, []string{"port base 40000", "40000-41279 of 128 origins", "base 20000 would fit"}},
		{"range is unknown", PortPlan{40000}, 128, 0, 0, nil, nil},
		{"above the range", PortPlan{61000}, 128, lo, hi, nil, nil},
		{"the end", PortPlan{65526}, 1, lo, hi, nil, nil},
		{"past the end", PortPlan{65527}, 1, lo, hi, nil, []string{"end above 65535", "base 20000 would fit"}},
		{"privileged", PortPlan{80}, 1, lo, hi, nil, []string{"begin below 1024", "base 20000 would fit"}},
		{"negative", PortPlan{-5}, 1, lo, hi, nil, []string{"begin below 1024"}},
		{"the proxy's own", PortPlan{}, 128, lo, hi, []int{20080, 11935}, []string{"include 20080, on which the proxy listens", "base 10000 would fit"}},
		{"the next base is taken too", PortPlan{}, 128, lo, hi, []int{20080, 10080}, []string{"include 20080", "base 11000 would fit"}},
		{"a gap of the stride", PortPlan{}, 1, lo, hi, []int{20009}, []string{"include 20009"}},
		{"beside the plan", PortPlan{}, 1, lo, hi, []int{19999, 20010}, nil},
		{"whole port space is ephemeral", PortPlan{}, 2, 1024, 65535, nil, []string{"no base would fit 20 ports", "ip_local_port_range"}},
		{"a narrow gap", PortPlan{}, 2, 1050, 65535, nil, []string{"base 1024 would fit"}},
		{"too many", PortPlan{}, 7000, lo, hi, nil, []string{"no base would fit 70000 ports"}},
		{"none", PortPlan{}, 0, lo, hi, nil, []string{"0 origins"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.plan.Validate(tt.origins, tt.lo, tt.hi, tt.reserved)
			if (err == nil) != (tt.want == nil) {
				t.Fatal(err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
		})
	}
}

func TestFittingBaseFits(t *testing.T) {
	for _, origins := range []int{1, 2, 128, 900, 1000, 2000, 3000} {
		for _, reserved := range [][]int{nil, {20000}, {1935, 8080, 1985, 8000, 10080}, {10005, 15000, 20000, 25000, 30000}} {
			base := fittingBase(origins, 32768, 60999, reserved)
			if base == 0 {
				if origins < 500 {
					t.Errorf("%d origins beside %v: none", origins, reserved)
				}
				continue
			}
			plan := PortPlan{base}
			if err := plan.Validate(origins, 32768, 60999, reserved); err != nil {
				t.Error(err)
			}
			if slices.ContainsFunc(reserved, func(p int) bool { return base <= p && p <= plan.Last(origins) }) {
				t.Errorf("base %d for %d origins includes one of %v", base, origins, reserved)
			}
		}
	}
}
