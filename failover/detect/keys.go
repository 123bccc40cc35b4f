package detect

import (
	"bytes"
	"errors"
	"slices"
)

// SetKeys replaces the keys of the gossip: the first encrypts from here on, all
// decrypt. The other node must know the first one already, see Config.Keys. It is
// an error on a detector that was started without keys.
func (d *Detector) SetKeys(keys [][]byte) error {
	if d.ring == nil || len(keys) == 0 {
		return errors.New("gossip keys: plain gossip can't become encrypted while it runs, nor the other way round")
	}
	for _, k := range keys {
		if err := d.ring.AddKey(k); err != nil {
			return err
		}
	}
	if err := d.ring.UseKey(keys[0]); err != nil {
		return err
	}
	for _, old := range slices.Clone(d.ring.GetKeys()) {
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			continue
		}
		// RemoveKey moves keys within the list that readers may hold; this gives
		// the ring a new list first.
		if err := d.ring.UseKey(keys[0]); err != nil {
			return err
		}
		if err := d.ring.RemoveKey(old); err != nil {
			return err
		}
	}
	return nil
}
