package witness

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/cluster/quorum"
	"dyad/cluster/witness/registertest"
)

func TestMemory(t *testing.T) {
	m := NewMemory()
	registertest.Run(t, func(_ testing.TB, id string) quorum.Register { return m.Cluster(id) })
	m.SetDown(quorum.ErrUnavailable)
	if _, err := m.Cluster("c").Get(t.Context()); !errors.Is(err, quorum.ErrUnavailable) {
		t.Error(err)
	}
	m.SetDown(nil)
	m.Wipe()
	if _, err := m.Cluster("c-2").Get(t.Context()); !errors.Is(err, quorum.ErrUnknown) {
		t.Error(err)
	}
}

func openFileIn(t testing.TB, dir, id string, timeout time.Duration) Witness {
	t.Helper()
	w, err := Open("file://"+dir, Options{Cluster: id, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	registertest.Run(t, func(t testing.TB, id string) quorum.Register { return openFileIn(t, dir, id, MaxTimeout) })
	left, err := filepath.Glob(filepath.Join(dir, ".*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAFileThatIsNotSound(t *testing.T) {
	dir := t.TempDir()
	w := openFileIn(t, dir, "c", DefaultTimeout)
	pair := registertest.Pair("c", 1)
	if _, err := w.Create(t.Context(), pair); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c.claim")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "cut": string(good[:len(good)/2]), "flipped": strings.Replace(string(good), "PAIR", "SOLO", 1), "foreign": "hello world\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Swap(t.Context(), pair, registertest.Sole("c", 2, "node-a")); !errors.Is(err, quorum.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.Create(t.Context(), pair); err == nil {
			t.Errorf("%s: it was created anew", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r := w.Check(t.Context()); !errors.Is(r.Err, quorum.ErrUnknown) || r.Kind != KindFile {
		t.Errorf("wiped: %+v", r)
	}
}

// A share that is gone, and one whose lock somebody keeps, are no grant.
func TestAFileThatDoesNotAnswer(t *testing.T) {
	w := openFileIn(t, filepath.Join(t.TempDir(), "not-mounted"), "c", DefaultTimeout)
	if _, err := w.Create(t.Context(), registertest.Pair("c", 1)); !errors.Is(err, quorum.ErrUnavailable) || !strings.Contains(err.Error(), "mount") {
		t.Errorf("not mounted: %v", err)
	}
	dir := t.TempDir()
	l, err := os.OpenFile(filepath.Join(dir, "c.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.FcntlFlock(l.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	w = openFileIn(t, dir, "c", 100*time.Millisecond)
	if _, err := w.Create(t.Context(), registertest.Pair("c", 1)); !errors.Is(err, quorum.ErrUnavailable) {
		t.Errorf("locked: %v", err)
	}
	if err := l.Close(); err != nil { // as the kernel does for a dead process
		t.Fatal(err)
	}
	if _, err := w.Create(context.Background(), registertest.Pair("c", 1)); err != nil {
		t.Errorf("unlocked: %v", err)
	}
}

func TestURLs(t *testing.T) {
	fp := strings.Repeat("0A", 32)
	for raw, want := range map[string]string{
		"https://w.example:7999":               "https://w.example:7999",
		"https://[2001:db8::1]:7999/#" + fp:    "https://[2001:db8::1]:7999#" + strings.ToLower(fp),
		"https://w:1#sha256:" + fp:             "https://w:1#" + strings.ToLower(fp),
		"https://w:1#" + colons(fp):            "https://w:1#" + strings.ToLower(fp),
		"file:///mnt/nfs/dyad":                 "file:///mnt/nfs/dyad/",
		"etcd://a:1,b:2/dyad/x?insecure=true":  "etcd://a:1,b:2/dyad/x?insecure=true",
		"etcd://a:1/x?ca=/c&key=/k&cert=/cert": "etcd://a:1/x?ca=%2Fc&cert=%2Fcert&key=%2Fk",
	} {
		got, err := Parse(raw)
		if err != nil || got.URL() != want {
			t.Errorf("%s: %s, %v; want %s", raw, got.URL(), err, want)
			continue
		}
		if again, err := Parse(got.URL()); err != nil || again.URL() != want {
			t.Errorf("%s does not read back: %v", want, err)
		}
	}
	for raw, why := range map[string]string{
		"w.example:7999":                  "no scheme",
		"http://w:1":                      "TLS",
		"ftp://w:1":                       "none of",
		"https://w":                       "HOST:PORT",
		"https://w:0":                     "1–65535",
		"https://w:1#abc":                 "64 hexadecimal",
		"https://w:1#token=secret":        "--token-file",
		"https://me:secret@w:1":           "user",
		"https://w:1/path":                "behind the port",
		"file://server/dir":               "no host",
		"file:///":                        "of its own",
		"file:///x?a=b":                   "only a directory",
		"etcd://a/x":                      "HOST:PORT",
		"etcd://a:1/?insecure=true":       "key is missing",
		"etcd://a:1/x":                    "ca is missing",
		"etcd://a:1/x?ca=/c&cert=/c":      "together",
		"etcd://a:1/x?password=secret":    "no setting",
		"etcd://u:secret@a:1/x?ca=/c":     "user",
		"https://w:1/" + longText(MaxURL): "longer",
	} {
		_, err := Parse(raw)
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "try:") {
			t.Errorf("%.40s: %v, want %q", raw, err, why)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the secret: %v", raw, err)
		}
	}
	if _, err := Open("https://w:1", Options{Cluster: "c"}); err == nil {
		t.Error("a witness server was opened without a certificate")
	}
	if _, err := Open("file:///x/", Options{Cluster: "../x"}); err == nil {
		t.Error("a path as a cluster's ID")
	}
}

func colons(s string) string {
	var out []string
	for i := 0; i < len(s); i += 2 {
		out = append(out, s[i:i+2])
	}
	return strings.Join(out, ":")
}

func longText(n int) string { return strings.Repeat("x", n) }
