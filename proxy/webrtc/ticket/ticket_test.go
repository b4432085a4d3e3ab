package ticket_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"srs-proxy/proxy/webrtc/ticket"
)

const secret = "a secret of the whole cluster"

func keys(t testing.TB, secret string) *ticket.Keys {
	t.Helper()
	k, err := ticket.New([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What one proxy issues another one reads, with nothing in common but the secret.
func TestIssueAndRead(t *testing.T) {
	ours, theirs := keys(t, secret), keys(t, secret)
	tag := ours.Tag("origin-7", "s1")
	ufrag, pwd := ours.Issue(tag, "4ZcD")
	// SRS takes 4 to 32 and 22 to 32 letters, and undoes no escapes of its query.
	if letters := regexp.MustCompile(`^[0-9a-f]{32}$`); !letters.MatchString(ufrag) || !letters.MatchString(pwd) {
		t.Errorf("ufrag %q, password %q", ufrag, pwd)
	}
	r := theirs.Reader()
	username := []byte(ufrag + ":4ZcD")
	got, ok := r.Read(username)
	if !ok || got != theirs.Tag("origin-7", "s1") {
		t.Errorf("Read = %x, %v, want %x", got, ok, tag)
	}
	if got := r.Password(username); string(got) != pwd {
		t.Errorf("Password = %s, want %s", got, pwd)
	}
	again, other := ours.Issue(tag, "4ZcD")
	if again == ufrag || other == pwd {
		t.Error("two sessions have one ufrag or password")
	}
	for _, another := range []ticket.Tag{ours.Tag("origin-7", "s2"), ours.Tag("origin-", "7s1"), keys(t, secret+"!").Tag("origin-7", "s1")} {
		if another == tag {
			t.Error("two origins have one tag")
		}
	}
}

// Each letter counts, and so does the client's own ufrag.
func TestForgeries(t *testing.T) {
	k := keys(t, secret)
	r := k.Reader()
	ufrag, _ := k.Issue(k.Tag("0", ""), "4ZcD")
	username := ufrag + ":4ZcD"
	refused := func(name, username string) {
		t.Helper()
		if tag, ok := r.Read([]byte(username)); ok {
			t.Errorf("%s: %q is a ticket to %x", name, username, tag)
		}
	}
	for i := range username {
		b := []byte(username)
		b[i] ^= 1
		refused("one letter is another", string(b))
		refused("the end is missing", username[:i])
		b[i] = ':'
		if string(b) != username {
			refused("a colon", string(b))
		}
	}
	refused("capitals", strings.ToUpper(ufrag)+":4ZcD")
	refused("of another client", ufrag+":4ZcE")
	refused("a longer remote ufrag", username+"x")
	refused("no remote ufrag", ufrag+":")
	refused("nothing", "")
	if _, ok := keys(t, "a secret of another cluster").Reader().Read([]byte(username)); ok {
		t.Error("a ticket of another secret is taken")
	}
	if _, ok := r.Read([]byte(username)); !ok {
		t.Error("the ticket itself is refused")
	}
}

func TestSecrets(t *testing.T) {
	for _, s := range []string{"", "fifteen letters"} {
		if _, err := ticket.New([]byte(s)); !errors.Is(err, ticket.ErrSecret) {
			t.Errorf("New(%q) = %v", s, err)
		}
	}
	a, b := ticket.Random(), ticket.Random()
	if a.Tag("0", "") == b.Tag("0", "") && a.Tag("1", "") == b.Tag("1", "") {
		t.Error("two random secrets are one")
	}
}

func TestSeal(t *testing.T) {
	k := keys(t, secret)
	plain := []byte("what nobody else must know")
	sealed := k.Seal("u:r", plain)
	if bytes.Contains(sealed, plain[:8]) || bytes.Equal(sealed, k.Seal("u:r", plain)) {
		t.Errorf("sealed as %q", sealed)
	}
	got, err := keys(t, secret).Unseal("u:r", sealed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Unseal = %q, %v", got, err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, unseal := range map[string]func() ([]byte, error){
		"another session": func() ([]byte, error) { return k.Unseal("u:x", sealed) },
		"another key":     func() ([]byte, error) { return keys(t, secret+"!").Unseal("u:r", sealed) },
		"changed":         func() ([]byte, error) { return k.Unseal("u:r", changed) },
		"cut":             func() ([]byte, error) { return k.Unseal("u:r", sealed[:5]) },
		"nothing":         func() ([]byte, error) { return k.Unseal("u:r", nil) },
	} {
		if got, err := unseal(); !errors.Is(err, ticket.ErrSealed) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	k := keys(t, secret)
	r := k.Reader()
	ufrag, _ := k.Issue(k.Tag("0", ""), "4ZcD")
	good, bad := []byte(ufrag+":4ZcD"), []byte(ufrag+":4ZcE")
	if n := testing.AllocsPerRun(100, func() {
		r.Read(bad)
		r.Read(good)
		r.Password(good)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzRead(f *testing.F) {
	k := keys(f, secret)
	ufrag, _ := k.Issue(k.Tag("0", ""), "4ZcD")
	f.Add([]byte(ufrag + ":4ZcD"))
	f.Add([]byte(":"))
	f.Add([]byte(strings.Repeat("0", 32) + ":x"))
	r := k.Reader()
	f.Fuzz(func(t *testing.T, username []byte) {
		if _, ok := r.Read(username); !ok {
			return
		}
		// Only one that was issued can be: here, or in the fuzzer's other processes.
		for i := range username {
			changed := bytes.Clone(username)
			changed[i] ^= 1
			if _, ok := r.Read(changed); ok {
				t.Errorf("%q is a ticket, and so is %q", username, changed)
			}
		}
	})
}
