package srsconf

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
)

// tree writes a parsed config in a form that shows each word's bounds.
func tree(d *Directive) string {
	var b strings.Builder
	for i, c := range d.Children {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("[" + strings.Join(append([]string{c.Name}, c.Args...), "|"))
		if len(c.Children) > 0 {
			b.WriteString(" " + tree(c))
		}
		b.WriteString("]")
	}
	return b.String()
}

func TestParse(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", ""},
		{"blank", " \t\r\n\n", ""},
		{"comment only", "# listen 1935;", ""},
		{"entry", "listen 1935;", "[listen|1935]"},
		{"many words", "listen 1935  127.0.0.1:1936\t[::1]:1937 ;", "[listen|1935|127.0.0.1:1936|[::1]:1937]"},
		{"no arguments", "listen;", "[listen]"},
		{"one letter", "a;", "[a]"},
		{"one line", "a 1;b 2;c{d 3;}e;", "[a|1] [b|2] [c [d|3]] [e]"},
		{"block", "vhost a {\n  hls {\n    enabled on;\n  }\n}\n", "[vhost|a [hls [enabled|on]]]"},
		{"no space before the brace", "vhost a{hls{enabled on;}}", "[vhost|a [hls [enabled|on]]]"},
		{"empty block is an entry", "vhost a {}", "[vhost|a]"},
		{"comment at the end of a line", "a 1; # b 2;\nc 3;", "[a|1] [c|3]"},
		{"comment after a brace", "a { # {{{\n b; }# c", "[a [b]]"},
		{"hash inside a word", "url http://h/p#frag;", "[url|http://h/p#frag]"},
		{"hash inside quotes", `url "# no; comment";`, "[url|# no; comment]"},
		{"double quotes", `a "b c;{}'" d;`, "[a|b c;{}'|d]"},
		{"single quotes", `a 'b c;{}"' d;`, `[a|b c;{}"|d]`},
		{"quotes then end", `a "b";c 'd'{e;}`, "[a|b] [c|d [e]]"},
		{"quoted name", `"listen" 1;`, "[listen|1]"},
		{"no escapes", `a "b\";`, `[a|b\]`},
		{"quote inside a word", `a b"c 'd'e";`, ""}, // 'd' is followed by e
		{"quotes inside a word", `a b"c d'e;`, `[a|b"c|d'e]`},
		{"empty word is none", `a "" b '';`, "[a|b]"},
		{"empty word first", `"" a;`, "[a]"},
		{"empty word, line, name", "\"\"\na;", "[a]"},
		{"brace inside a word", "a b}c;", "[a|b}c]"},
		{"tab in quotes", "a \"b\tc\";", "[a|b\tc]"},
		{"variables", "mount [vhost]/[app]/[stream].flv;", "[mount|[vhost]/[app]/[stream].flv]"},
		{"bytes above 127", "a \xff\xc3\xa9;", "[a|\xff\xc3\xa9]"},
		{"crlf", "a 1;\r\nb {\r\nc 2;\r\n}\r\n", "[a|1] [b [c|2]]"},
		{"include is a directive here", "include a.conf b.conf;", "[include|a.conf|b.conf]"},
		{"repeated", "vhost a;vhost a;", "[vhost|a] [vhost|a]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Parse("x.conf", []byte(tt.text))
			if tt.name == "quote inside a word" {
				if err == nil {
					t.Fatal("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(d); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	deep := strings.Repeat("a {\n", maxDepth+1)
	tests := []struct {
		name, text string
		line       int
		part       string
	}{
		{"no semicolon", "a 1;\nlisten 1935\nb 2;", 2, `unexpected end of line after "1935"`},
		{"name alone on its line", "listen\n1935;", 1, `unexpected end of line after "listen"`},
		{"brace on the next line", "vhost a\n{\n}", 1, `unexpected end of line after "a"`},
		{"carriage return is a line end", "listen 1935\r;", 1, "unexpected end of line"},
		{"comment instead of a semicolon", "listen 1935 # all\n;", 1, "unexpected end of line"},
		{"end of file in a directive", "a;\nlisten 1935", 2, "unexpected end of file"},
		{"end of file after a space", "listen 1935 ", 1, "unexpected end of file"},
		{"end of file after quotes", `listen "1935"`, 1, "unexpected end of file"},
		{"end of file in a comment", "listen # x", 1, "unexpected end of file"},
		{"open block", "vhost a {\n hls {\n }\n", 4, `"}" expected for vhost of line 1`},
		{"brace too many", "a {\n}\n}\n", 3, `unexpected "}"`},
		{"brace after words", "a {\n b }\n", 2, `unexpected "}"`},
		{"lone semicolon", "a;;", 1, `unexpected ";"`},
		{"nameless block", "a;\n{ b; }", 2, `unexpected "{"`},
		{"empty name", `"";`, 1, `unexpected ";"`},
		{"open quote", "a 1;\nb \"c;\nd 2;\n", 2, "is not closed on its line"},
		{"open quote at the end", "a 'b;", 1, "the quote ' is not closed"},
		{"text after quotes", `a "b"c;`, 1, `unexpected "c" after a quoted word`},
		{"comment after quotes", `a "b"# c`, 1, `unexpected "#" after a quoted word`},
		{"brace after quotes", `a { b "c"} `, 1, `unexpected "}" after a quoted word`},
		{"nul", "a b\x00c;", 1, "control character"},
		{"nul in quotes", "a \"b\x00c\";", 1, "not closed on its line"},
		{"too deep", deep, maxDepth + 1, "nested deeper"},
		{"too large", strings.Repeat("a;\n", maxSize/3+1), 1, "more than the"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("dir/x.conf", []byte(tt.text))
			var at *SyntaxError
			if !errors.As(err, &at) {
				t.Fatalf("error %v", err)
			}
			if at.Line != tt.line || !strings.Contains(at.Msg, tt.part) {
				t.Errorf("got %q, want line %d and %q", err, tt.line, tt.part)
			}
			if prefix := "dir/x.conf:" + itoa(tt.line) + ": "; !strings.HasPrefix(err.Error(), prefix) {
				t.Errorf("%q does not begin with %q", err, prefix)
			}
		})
	}
}

// What Parse accepts and refuses must be what SRS accepts and refuses.
func TestParseAgreesWithSRS(t *testing.T) {
	binary, v := srs(t)
	listen := "listen 127.0.0.1:20000;\n"
	if v.Since(Version{7, 0, 64}) {
		listen = "rtmp { listen 127.0.0.1:20000; }\n"
	}
	for _, text := range []string{
		"vhost a { }", "vhost a {}", "vhost a{hls{enabled on;}}", "vhost a;", `vhost "a b" { }`, `vhost 'a"b' { }`, `vhost a"b { }`,
		"vhost a { # {{{\n }", "vhost \"#a\" { }", "vhost a#b { }", `"vhost" a { }`, `vhost "" a { }`, `vhost a\;`, "vhost a}b;",
		"vhost a\n{ }", "vhost a { hls { enabled on } }", "vhost a {", "vhost a { } }", "vhost a { }\r\n", "vhost a # c\n;", "vhost a",
		`vhost "a"b;`, `vhost "a;`, ";", "{ }", `"";`, "vhost a { hls { enabled on; }", "vhost a\r;", "vhost a ;;",
	} {
		file := t.TempDir() + "/x.conf"
		if err := os.WriteFile(file, []byte(listen+text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, ours := Parse(file, []byte(listen+text))
		theirs := Check(t.Context(), []string{binary}, file)
		if theirs != nil && !errors.Is(theirs, ErrRefused) {
			t.Fatal(theirs)
		}
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%q: ours %v; SRS %v", text, ours, theirs)
		}
	}
}

func TestDirectiveAccessors(t *testing.T) {
	d, err := Parse("x.conf", []byte(`
listen 1935 1936;
rtc_server { enabled on; tcp { enabled off; } }
vhost one { play { queue_length 10; mw_latency fast; gop_cache maybe; } }
vhost off.com { enabled off; }
vhost on.com { enabled on; }
vhost odd.com { enabled perhaps; }
vhost { }
`))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("value", d.Value("listen"), "1935")
	check("arg", d.Get("listen").Arg(1), "1936")
	check("no such arg", d.Get("listen").Arg(2), "")
	check("negative arg", d.Get("listen").Arg(-1), "")
	check("nil", d.Get("nothing", "at", "all").Arg(0), "")
	check("nil child", d.Get("nothing") == nil, true)
	check("line", d.Get("rtc_server", "tcp").Line, 3)
	check("pos", d.Get("vhost").Pos(), "x.conf:4")
	check("on", d.On(false, "rtc_server", "enabled"), true)
	check("off", d.On(true, "rtc_server", "tcp", "enabled"), false)
	check("default", d.On(true, "srt_server", "enabled"), true)
	one := d.Vhost("one")
	check("odd switch is the default", one.On(true, "play", "gop_cache"), true)
	check("int", one.Int(1, "play", "queue_length"), 10)
	check("no int", one.Int(1, "play", "mw_latency"), 1)
	check("no directive", one.Int(2, "play", "nothing"), 2)
	check("all", len(d.All("vhost")), 5)
	check("all of nil", len((*Directive)(nil).All("vhost")), 0)
	check("vhosts", Vhosts(d), []string{"one", "on.com", "odd.com"})
	check("vhosts of nil", len(Vhosts(nil)), 0)
	check("no vhost", d.Vhost("none") == nil, true)
	check("string of nil", (*Directive)(nil).String(), "")
}

func TestDirectiveString(t *testing.T) {
	text := `listen 1935 "a b" c"d;
vhost "x;y" {
    hls {
        enabled on;
    }
    "#" "}" 'e f"' g"h'i;
}
`
	d, err := Parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := d.String(); got != text {
		t.Errorf("got:\n%s", got)
	}
	if got := d.Vhost("x;y").Get("hls").String(); got != "hls {\n    enabled on;\n}\n" {
		t.Errorf("a part: %q", got)
	}
}

func TestWord(t *testing.T) {
	tests := []struct{ in, want, err string }{
		{"abc", "abc", ""},
		{"/a/b-c.d", "/a/b-c.d", ""},
		{"a b", `"a b"`, ""},
		{"a;b", `"a;b"`, ""},
		{"a{b}", `"a{b}"`, ""},
		{"a}b", "a}b", ""},
		{"}", `"}"`, ""},
		{"#a", `"#a"`, ""},
		{"a#b", "a#b", ""},
		{`"a"`, `'"a"'`, ""},
		{`a"b`, `a"b`, ""},
		{`a "b`, `'a "b'`, ""},
		{`a'b"c`, `a'b"c`, ""},
		{"a\tb", "\"a\tb\"", ""},
		{`a '"`, "", "both kinds"},
		{"", "", "empty"},
		{"a\nb", "", "control character"},
		{"a\x00", "", "control character"},
	}
	for _, tt := range tests {
		got, err := Word(tt.in)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: got %s, %v", tt.in, got, err)
			continue
		}
		if err != nil {
			continue
		}
		d, err := Parse("x", []byte("a "+got+";"))
		if err != nil || len(d.Children) != 1 || d.Value("a") != tt.in || len(d.Children[0].Args) != 1 {
			t.Errorf("%q is read back as %v, %v", tt.in, d, err)
		}
	}
}
