package kb

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed entries/*.yaml hints.yaml
var files embed.FS

// knowledge is everything that is read from the embedded files.
type knowledge struct {
	entries []*Entry
	byName  map[string]*Entry // lower case
	rules   []rule
	hints   []hint
}

// base reads the embedded files once. They are part of the program: a fault in
// them is a programmer's error, which the tests find.
var base = sync.OnceValue(func() *knowledge {
	k, err := load(files)
	if err != nil {
		panic("kb: " + err.Error())
	}
	return k
})

// load reads entries/*.yaml and hints.yaml strictly. The error names the file.
func load(fsys fs.FS) (*knowledge, error) {
	k := &knowledge{byName: map[string]*Entry{}}
	names, err := fs.Glob(fsys, "entries/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		e := &Entry{}
		if err := decode(fsys, name, e); err != nil {
			return nil, err
		}
		if want := strings.TrimSuffix(path.Base(name), ".yaml"); !strings.HasPrefix(want, e.Code+"-") {
			return nil, fmt.Errorf("%s: the file of %s must be called %s-…", name, e.Code, e.Code)
		}
		for _, n := range e.names() {
			n = strings.ToLower(n)
			if other, taken := k.byName[n]; taken {
				return nil, fmt.Errorf("%s: %q is also %s", name, n, other.Code)
			}
			k.byName[n] = e
		}
		for i := range e.Match {
			r, err := compile(e, &e.Match[i])
			if err != nil {
				return nil, fmt.Errorf("%s: match %d: %w", name, i+1, err)
			}
			k.rules = append(k.rules, r)
		}
		k.entries = append(k.entries, e)
	}
	slices.SortFunc(k.entries, func(a, b *Entry) int { return strings.Compare(a.Code, b.Code) })
	var hints []hint
	if err := decode(fsys, "hints.yaml", &hints); err != nil {
		return nil, err
	}
	for _, h := range hints {
		if err := h.compile(); err != nil {
			return nil, fmt.Errorf("hints.yaml: %w", err)
		}
		k.hints = append(k.hints, h)
	}
	return k, nil
}

// decode reads one document; what v does not know is an error.
func decode(fsys fs.FS, name string, v any) error {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var more any
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one document", name)
	}
	return nil
}
