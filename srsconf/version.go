package srsconf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrNoVersion says that a text holds no SRS version.
var ErrNoVersion = errors.New("no SRS version found")

// versionTimeout bounds `srs -v`, which prints a constant: only a machine that
// is starved of CPU, or a binary that is something else, takes longer.
const versionTimeout = 5 * time.Second

// Version is the version of an SRS binary.
type Version struct{ Major, Minor, Revision int }

var (
	versionLine = regexp.MustCompile(`(?m)^[ \t]*v?(\d{1,4})\.(\d{1,6})\.(\d{1,6})[ \t\r]*$`)
	versionSRS  = regexp.MustCompile(`SRS[/ ]v?(\d{1,4})\.(\d{1,6})\.(\d{1,6})(?:[^.\d]|$)`)
	versionAny  = regexp.MustCompile(`(?:^|[^.\d])(\d{1,4})\.(\d{1,6})\.(\d{1,6})(?:[^.\d]|$)`)
)

// ParseVersion finds the version in the output of `srs -v`, which is a line of
// its own among whatever else the binary or its sanitizer printed.
func ParseVersion(s string) (Version, error) {
	for _, re := range []*regexp.Regexp{versionLine, versionSRS, versionAny} {
		if m := re.FindStringSubmatch(s); m != nil {
			return Version{atoi(m[1]), atoi(m[2]), atoi(m[3])}, nil
		}
	}
	return Version{}, fmt.Errorf("%w in %q", ErrNoVersion, shorten(strings.TrimSpace(s), 200))
}

// atoi is for digits that a regexp has matched.
func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

// String is "major.minor.revision".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Revision)
}

// Compare is negative when v is older than o, 0 when they are the same.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor), cmp.Compare(v.Revision, o.Revision))
}

// AtLeast reports whether v is o or newer.
func (v Version) AtLeast(o Version) bool { return v.Compare(o) >= 0 }

// Since reports whether v has something that came with the given versions,
// one for each release line it was added to: Since(5.0.215, 6.0.156, 7.0.15).
// A line that is not named has it when an older one does. The zero Version is
// newer than all.
func (v Version) Since(first ...Version) bool {
	if v == (Version{}) {
		return true
	}
	var line *Version // the newest that is not of a later release line
	for i, f := range first {
		if f.Major <= v.Major && (line == nil || f.AtLeast(*line)) {
			line = &first[i]
		}
	}
	return line != nil && v.AtLeast(*line)
}

// DetectVersion runs `binary -v`.
func DetectVersion(ctx context.Context, binary string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, runErr := run(ctx, binary, "-v")
	v, err := ParseVersion(out)
	switch {
	case err == nil: // SRS 3 and some builds exit with a status after -v
		return v, nil
	case runErr != nil:
		// A missing library is named there, say.
		return v, fmt.Errorf("version of %s: %w: %s", binary, runErr, lastLines(out))
	}
	return v, fmt.Errorf("version of %s: %w", binary, err)
}
