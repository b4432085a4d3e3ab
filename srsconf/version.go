package srsconf

import (
	"context"
	"errors"
)

var errUnimplemented = errors.New("srsconf: not implemented yet")

// Version is the version of an SRS binary.
type Version struct{ Major, Minor, Revision int }

// ParseVersion finds the version in the output of `srs -v`.
func ParseVersion(s string) (Version, error) { return Version{}, errUnimplemented }

// String is "major.minor.revision".
func (v Version) String() string { return "" }

// AtLeast reports whether v is o or newer.
func (v Version) AtLeast(o Version) bool { return false }

// DetectVersion runs `binary -v`.
func DetectVersion(ctx context.Context, binary string) (Version, error) {
	return Version{}, errUnimplemented
}
