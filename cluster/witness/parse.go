package witness

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Parse takes a witness's URL apart and checks it; see [Open] for the forms. A
// password or a token in it is refused: the URL stands in the log.
func Parse(raw string) (Target, error) {
	var t Target
	if len(raw) > MaxURL {
		return t, badURL(raw[:32]+"…", fmt.Sprintf("it is longer than %d bytes", MaxURL))
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return t, badURL(raw, "it has no scheme")
	}
	switch t.Kind = strings.ToLower(scheme); t.Kind {
	case KindHTTPS:
		return parseHTTPS(raw)
	case KindFile:
		return parseFile(raw)
	case KindEtcd:
		return parseEtcd(raw, rest)
	case "http":
		return t, badURL(raw, "a witness is only reached by TLS")
	}
	return t, badURL(raw, fmt.Sprintf("%q is none of https, file, etcd", scheme))
}

func badURL(raw, why string) error {
	return fmt.Errorf("the witness %q: %s\n  try: https://HOST:PORT#FINGERPRINT, as dyad witness serve prints it, or file:///DIRECTORY/, or etcd://HOST:PORT/KEY?ca=FILE&cert=FILE&key=FILE",
		raw, why)
}

func parseHTTPS(raw string) (Target, error) {
	t := Target{Kind: KindHTTPS}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return t, badURL("https://…", "it is not a URL")
	case u.User != nil:
		return t, badURL("https://"+u.Host, "it holds a user; a node is known by its certificate")
	case strings.Contains(u.Fragment, "token"):
		return t, badURL("https://"+u.Host, "it holds a token, which would be seen in lists of processes; use --token-file FILE")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "":
		return t, badURL(raw, "nothing but the fingerprint stands behind the port")
	}
	if err := hostPort(u.Host); err != nil {
		return t, badURL(raw, err.Error())
	}
	t.Hosts = []string{u.Host}
	if u.Fragment != "" {
		if t.Fingerprint, err = fingerprint(u.Fragment); err != nil {
			return t, badURL("https://"+u.Host+"#…", err.Error())
		}
	}
	return t, nil
}

// fingerprint reads a SHA-256 as openssl and dyad print it.
func fingerprint(s string) (string, error) {
	s = strings.ToLower(strings.ReplaceAll(s, ":", ""))
	s = strings.TrimPrefix(s, "sha256")
	ok := len(s) == 64
	for _, c := range s {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	}
	if !ok {
		return "", fmt.Errorf("a fingerprint is the SHA-256 of the server's certificate, 64 hexadecimal digits")
	}
	return s, nil
}

func hostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("the port %q is not 1–65535", port)
	}
	return nil
}

func parseFile(raw string) (Target, error) {
	t := Target{Kind: KindFile}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return t, badURL(raw, "it is not a URL")
	case u.Host != "" && u.Host != "localhost":
		return t, badURL(raw, "a file has no host: mount the share, and write three slashes")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return t, badURL(raw, "it is only a directory")
	case !path.IsAbs(u.Path) || path.Clean(u.Path) == "/":
		return t, badURL(raw, "a directory of its own is needed")
	}
	t.Path = path.Clean(u.Path) + "/"
	return t, nil
}

func parseEtcd(raw, rest string) (Target, error) {
	t := Target{Kind: KindEtcd}
	authority, tail, _ := strings.Cut(rest, "/")
	if strings.Contains(authority, "@") {
		return t, badURL("etcd://…", "it holds a user; use a client certificate")
	}
	t.Hosts = strings.Split(authority, ",")
	for _, h := range t.Hosts {
		if err := hostPort(h); err != nil {
			return t, badURL(raw, err.Error())
		}
	}
	u, err := url.Parse("/" + tail)
	if err != nil || u.Fragment != "" {
		return t, badURL(raw, "it is not a URL")
	}
	if t.Path = u.Path; t.Path == "/" {
		return t, badURL(raw, "the key is missing")
	}
	for name, values := range u.Query() {
		v := values[0]
		switch name {
		case "ca":
			t.CA = v
		case "cert":
			t.Cert = v
		case "key":
			t.Key = v
		case "insecure":
			t.Insecure = v == "true"
		default:
			return t, badURL("etcd://"+authority, fmt.Sprintf("it has no setting %q; ca, cert, key and insecure there are", name))
		}
	}
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return t, badURL(raw, "cert and key come together")
	case t.Insecure && t.CA != "":
		return t, badURL(raw, "insecure and ca exclude each other")
	case t.CA == "" && !t.Insecure:
		return t, badURL(raw, "ca is missing, the file that holds the etcd's CA; insecure=true goes without TLS")
	}
	return t, nil
}
