package runtime

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseCPUSet(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", ""},
		{" \n", ""},
		{"0", "0"},
		{"0-3,8\n", "0-3,8"},
		{"8,0-3", "0-3,8"},
		{"1,0,1,2,2-4", "0-4"},
		{" 1 , 3-4", "1,3-4"},
		{"5-5", "5"},
		{"8191", "8191"},
		{"0-8191,0-8191,0-8191", "0-8191"},
	} {
		set, err := ParseCPUSet(tc.in)
		if err != nil || set.String() != tc.want {
			t.Errorf("ParseCPUSet(%q) = %q, %v; want %q", tc.in, set, err, tc.want)
		}
	}
	for _, tc := range []struct{ in, says string }{
		{"3-1", "backwards"},
		{"a", "not a CPU number"},
		{"1,,2", "not a CPU number"},
		{"1-", "not a CPU number"},
		{"-1", "not a CPU number"},
		{"+1", "not a CPU number"},
		{"1-2-3", "not a CPU number"},
		{"0-8192", "over the last possible one"},
		{"99999999999999999999", "not a CPU number"},
		{strings.Repeat("x", 10_000), "..."},
	} {
		set, err := ParseCPUSet(tc.in)
		if err == nil || !strings.Contains(err.Error(), tc.says) || len(err.Error()) > 300 {
			t.Errorf("ParseCPUSet(%.20q) = %q, %v; want an error that says %q", tc.in, set, err, tc.says)
		}
	}
}

func TestCPUSetAlgebra(t *testing.T) {
	a, b := CPUSet{0, 1, 2, 5}, CPUSet{2, 3, 5}
	for name, got := range map[string]CPUSet{
		"0-3,5": a.Union(b),
		"0-1":   a.Minus(b),
		"2,5":   a.intersect(b),
		"":      a.Minus(a),
	} {
		if got.String() != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
	if !a.Contains(5) || a.Contains(3) || CPUSet(nil).Contains(0) {
		t.Error("Contains is wrong")
	}
	if !a.Equal(CPUSet{0, 1, 2, 5}) || a.Equal(b) || !CPUSet(nil).Equal(CPUSet{}) {
		t.Error("Equal is wrong")
	}
	if a.String() != "0-2,5" || b.String() != "2-3,5" {
		t.Errorf("the operands changed: %v, %v", a, b)
	}
}

func FuzzParseCPUSet(f *testing.F) {
	for _, s := range []string{"", "0-3,8", "1,,2", "3-1", "0-8191", "\x00", "0-8191,0-8191,7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := ParseCPUSet(text)
		if err != nil {
			return
		}
		for i, id := range set {
			if id < 0 || id >= maxCPU || i > 0 && id <= set[i-1] {
				t.Fatalf("%q: %v is not sorted and unique", text, []int(set))
			}
		}
		again, err := ParseCPUSet(set.String())
		if err != nil || !again.Equal(set) {
			t.Fatalf("%q: %q reads back as %q, %v", text, set, again, err)
		}
	})
}

// randomSubset is a subset of set, each CPU with chance p.
func randomSubset(r *rand.Rand, set CPUSet, p float64) CPUSet {
	var sub CPUSet
	for _, id := range set {
		if r.Float64() < p {
			sub = append(sub, id)
		}
	}
	return sub
}
