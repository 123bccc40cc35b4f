package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"dyad/cluster/quorum"
)

// Record is what the witness holds of a cluster.
type Record struct {
	Claim quorum.Claim `json:"claim"`
	// CA is the SHA-256 of the public key of the cluster's CA, in hexadecimal. It
	// is set at creation; only certificates of that CA may ask.
	CA      string    `json:"ca"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	// By is the node that made the newest change.
	By string `json:"by"`
}

// The file of claims. Its first line is the header; every other line is a frame:
// the CRC-32C of the rest in hexadecimal, a space, and a JSON array of records,
// of which the last of a cluster counts. A frame is written and synced as a
// whole before the next one begins.
const (
	claimsFile = "claims.log"
	lockFile   = "lock"
	header     = "dyad-witness 1\n"
)

// ErrDamaged: the file of claims is not what this program wrote. The witness
// then does not start: a claim that is lost could be granted twice.
var ErrDamaged = errors.New("the file of claims is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeFrame(records []Record) ([]byte, error) {
	b, err := json.Marshal(records)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(b)+10)
	out = fmt.Appendf(out, "%08x ", crc32.Checksum(b, castagnoli))
	return append(append(out, b...), '\n'), nil
}

// decodeFrame reads a line without its end.
func decodeFrame(line []byte) ([]Record, error) {
	sum, text, ok := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || err != nil || len(sum) != 8 || uint32(want) != crc32.Checksum(text, castagnoli) {
		return nil, errors.New("the checksum does not match")
	}
	var out []Record
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	for _, r := range out {
		if err := r.Claim.Check(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Load reads the claims in a data directory, also while a witness runs there. An
// absent file is no claims. Errors: [ErrDamaged], and the file system's.
//
// What a crash cut off is passed over: a last line without an end, or one with
// NUL bytes, which a file system leaves where it never wrote. Nobody was told
// yes for it. Anything else that does not read is damage.
func Load(dir string) (map[string]Record, error) {
	out := map[string]Record{}
	f, err := os.Open(filepath.Join(dir, claimsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if first, err := r.ReadBytes('\n'); err != nil || string(first) != header {
		return nil, damaged(f.Name(), 1, errors.New("it does not begin as a file of claims of this release"))
	}
	for n := 2; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil // what is behind the last end of line was never answered
		}
		if err != nil {
			return nil, err
		}
		records, err := decodeFrame(line[:len(line)-1])
		if err != nil {
			if _, next := r.Peek(1); errors.Is(next, io.EOF) && bytes.IndexByte(line, 0) >= 0 {
				return out, nil
			}
			return nil, damaged(f.Name(), n, err)
		}
		for _, rec := range records {
			out[rec.Claim.Cluster] = rec
		}
	}
}

func damaged(path string, line int, why error) error {
	return fmt.Errorf("%w: %s, line %d: %w\n  try: restore it from a copy that holds every newer claim, or move it away and add the witness to each cluster again",
		ErrDamaged, path, line, why)
}
