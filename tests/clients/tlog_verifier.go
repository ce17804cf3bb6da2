// Checks an export of an appliance's record with other people's code: notes with sumdb/note, hashes,
// tiles and proofs with sumdb/tlog, both of golang.org/x/mod.
//
//	tlog_verifier export DIR LOGKEY [WITNESSKEY...]   checkpoint, every tile, every entry
//	tlog_verifier proof RECORD PROOF LOGKEY           one entry by its C2SP proof
//	tlog_verifier request FILE LOGKEY OLDROOT         a request to a witness; OLDROOT in base64
//	tlog_verifier vectors COUNT                       roots and proofs of the log of numbers below COUNT
//
// It prints what it found and ends with 0, or says why not and ends with 1.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) >= 3 && args[0] == "export":
		err = export(args[1], args[2], args[3:])
	case len(args) == 4 && args[0] == "proof":
		err = proof(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "request":
		err = request(args[1], args[2], args[3])
	case len(args) == 2 && args[0] == "vectors":
		err = vectors(args[1])
	default:
		err = fmt.Errorf("no such call")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// cosigner checks C2SP cosignatures of type 4, which sumdb/note does not know; what a name and an id
// call, and which signatures a note has, stays its own to say.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }

func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	header := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(header), msg...), sig[8:])
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("no key of a witness")
	}
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(typed) != 33 || typed[0] != 4 {
		return nil, fmt.Errorf("no key of a witness")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), typed...))
	if fmt.Sprintf("%x", sum[:4]) != parts[1] {
		return nil, fmt.Errorf("the id of a witness's key does not fit")
	}
	return cosigner{parts[0], binary.BigEndian.Uint32(sum[:4]), typed[1:]}, nil
}

// open returns the tree of a checkpoint that the log and every witness signed.
func open(data []byte, logKey string, witnessKeys []string) (tlog.Tree, error) {
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return tlog.Tree{}, err
	}
	known := []note.Verifier{log}
	for _, key := range witnessKeys {
		witness, err := newCosigner(key)
		if err != nil {
			return tlog.Tree{}, err
		}
		known = append(known, witness)
	}
	opened, err := note.Open(data, note.VerifierList(known...))
	if err != nil {
		return tlog.Tree{}, err
	}
	if len(opened.Sigs) != len(known) {
		return tlog.Tree{}, fmt.Errorf("%d of %d signed", len(opened.Sigs), len(known))
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != log.Name() {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint of that log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// tiles reads the files of an export as tiles of height 8; C2SP leaves the height out of the path.
type tiles string

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(t), path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func export(dir, logKey string, witnessKeys []string) error {
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := open(data, logKey, witnessKeys)
	if err != nil {
		return err
	}
	// What this reader gives out it has proved to be under the root.
	reader := tlog.TileHashReader(tree, tiles(dir))
	for first := int64(0); first < tree.N; first += 256 {
		width := tree.N - first
		if width > 256 {
			width = 256
		}
		leaf := tlog.Tile{H: 8, L: -1, N: first / 256, W: int(width)}
		path := strings.Replace(leaf.Path(), "tile/8/data/", "tile/entries/", 1)
		bundle, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		for index := first; index < first+width; index++ {
			if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("entry %d is cut short", index)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			if err != nil {
				return err
			}
			if hashes[0] != tlog.RecordHash(bundle[2:end]) {
				return fmt.Errorf("entry %d has another hash than its tile", index)
			}
			bundle = bundle[end:]
		}
		if len(bundle) != 0 {
			return fmt.Errorf("a bundle holds more than its entries")
		}
	}
	for at, all := 0, tlog.NewTiles(8, 0, tree.N); at < len(all); at++ {
		tile := all[at]
		if at+1 < len(all) && all[at+1].L == tile.L && all[at+1].N == tile.N {
			continue // the widest of each is the one that a log of this size has
		}
		stored, err := tiles(dir).ReadTiles([]tlog.Tile{tile})
		if err != nil {
			return err
		}
		made, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			return err
		}
		if !bytes.Equal(stored[0], made) {
			return fmt.Errorf("%s is another", tile.Path())
		}
	}
	fmt.Println(tree.N, tree.Hash)
	return nil
}

// hashes reads lines of base64.
func hashes(lines []string) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		all = append(all, hash)
	}
	return all, nil
}

// head splits a file into its lines before the empty one, and the checkpoint behind it.
func head(path string) ([]string, []byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	at := bytes.Index(data, []byte("\n\n"))
	if at < 0 {
		return nil, nil, fmt.Errorf("no empty line")
	}
	return strings.Split(string(data[:at]), "\n"), data[at+2:], nil
}

func proof(record, path, logKey string) error {
	entry, err := os.ReadFile(record)
	if err != nil {
		return err
	}
	lines, checkpoint, err := head(path)
	if err != nil {
		return err
	}
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not a proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	steps, err := hashes(lines[2:])
	if err != nil {
		return err
	}
	tree, err := open(checkpoint, logKey, nil)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(steps, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

func request(path, logKey, oldRoot string) error {
	lines, checkpoint, err := head(path)
	if err != nil {
		return err
	}
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	if err != nil {
		return err
	}
	steps, err := hashes(lines[1:])
	if err != nil {
		return err
	}
	tree, err := open(checkpoint, logKey, nil)
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(oldRoot)
	if err != nil {
		return err
	}
	return tlog.CheckTree(steps, tree.N, tree.Hash, old, root)
}

// vectors prints, for every size up to count, the root, and each proof of an entry and of a prefix.
func vectors(count string) error {
	most, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return err
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var all []tlog.Hash
		for _, index := range indexes {
			all = append(all, stored[index])
		}
		return all, nil
	})
	for size := int64(1); size <= most; size++ {
		more, err := tlog.StoredHashes(size-1, []byte(strconv.FormatInt(size-1, 10)), reader)
		if err != nil {
			return err
		}
		stored = append(stored, more...)
		root, err := tlog.TreeHash(size, reader)
		if err != nil {
			return err
		}
		fmt.Println("root", size, root)
		for index := int64(0); index < size; index++ {
			inclusion, err := tlog.ProveRecord(size, index, reader)
			if err != nil {
				return err
			}
			fmt.Println("record", size, index, strings.Trim(fmt.Sprint([]tlog.Hash(inclusion)), "[]"))
			prefix, err := tlog.ProveTree(size, index+1, reader)
			if err != nil {
				return err
			}
			fmt.Println("tree", size, index+1, strings.Trim(fmt.Sprint([]tlog.Hash(prefix)), "[]"))
		}
	}
	return nil
}
