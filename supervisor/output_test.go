package supervisor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output.log")
	if err := os.WriteFile(path, []byte("of the one before"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := newOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	if old, err := os.ReadFile(path + ".old"); err != nil || string(old) != "of the one before" {
		t.Errorf("the output before is %q (%v)", old, err)
	}
	print := func(text string) { // as the process does, which has a descriptor of its own
		t.Helper()
		if _, err := o.f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for range outputLimit / len("an old line\n") {
		print("an old line\n")
	}
	o.bound()
	if size() == 0 {
		t.Error("cut too early")
	}
	print("the last old line\n")
	o.bound()
	if got := size(); got != 0 {
		t.Errorf("%d bytes after the cut", got)
	}
	if got, want := o.lines(2), []string{"an old line", "the last old line"}; !slices.Equal(got, want) {
		t.Errorf("after the cut %q, want %q", got, want)
	}
	print("\x1b[31mred\x1b[0m and \x07bell\n\n  last, unfinished")
	if got, want := o.lines(3), []string{"the last old line", "red and ?bell", "last, unfinished"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	again := reopenOutput(path)
	if got, want := again.lines(9), []string{"red and ?bell", "last, unfinished"}; !slices.Equal(got, want) {
		t.Errorf("who opens it anew reads %q, want %q", got, want)
	}
	again.end()
	print(strings.Repeat("é", outputShown))
	o.end()
	if got := o.lines(1); len(got) != 1 || len(got[0]) > maxLine+3 || !strings.HasSuffix(got[0], "...") {
		t.Errorf("a long line is shown as %q", got)
	}
	if len(o.kept) > outputShown {
		t.Errorf("%d bytes kept", len(o.kept))
	}
}

// A state dir is not only ours to write: what stands in the place of the file may
// be anything.
func TestReopenOutputTakesFilesOnly(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, dir, filepath.Join(dir, "missing"), "/dev/null"} {
		o := reopenOutput(path)
		if o.f != nil || len(o.lines(1)) != 0 {
			t.Errorf("%s was opened", path)
		}
		o.bound()
		o.end()
	}
}
