package mongotest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// serverBinary builds the server once per content of its module and Go version, in the user's cache
// directory, and gives its path. Test binaries that run at the same time wait for one build.
var serverBinary = sync.OnceValues(func() (string, error) {
	gomod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	source := filepath.Join(filepath.Dir(strings.TrimSpace(string(gomod))), "internal", "mongotest", "server")
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH)
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", fmt.Errorf("read the server's source: %w", err)
		}
		fmt.Fprintln(sum, name, len(data))
		sum.Write(data)
	}
	fmt.Fprint(sum, patches)
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	dir := filepath.Join(cache, "wabot-mongotest")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	path := filepath.Join(dir, "server-"+hex.EncodeToString(sum.Sum(nil)[:12]))
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("open the build's lock: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("wait for another build: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	work, err := os.MkdirTemp("", "mongotest-build-")
	if err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(work)
	if err := patched(source, work); err != nil {
		return "", fmt.Errorf("patch the server: %w", err)
	}
	build := exec.Command("go", "build", "-trimpath", "-modfile", filepath.Join(work, "go.mod"), "-o", path+".new", ".")
	build.Dir = source
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return path, os.Rename(path+".new", path)
})

// Build builds the server, which takes minutes the first time on a machine. Tests that count their time call it before they run.
func Build() error {
	if external != "" {
		return nil
	}
	_, err := serverBinary()
	return err
}

// patch is a change to one file of FerretDB.
type patch struct{ file, old, new string }

// patches make FerretDB look a document up by its _id where a filter says more than that, too, or names several _ids, and give the
// tables the index for it. It checks each document that it finds against the whole filter, so this saves it
// nothing but the reading of the whole collection for each. What it has written or decoded once it does not decode again, as long as
// it is unchanged, and it does not note the stack at which each of its iterators was made.
var patches = []patch{{
	"internal/backends/sqlite/collection.go",
	`	if params.Filter.Len() == 1 {
		v, _ := params.Filter.Get("_id")
		switch v.(type) {
		case string, types.ObjectID:
			whereClause = fmt.Sprintf(` + "` WHERE %s = ?`" + `, metadata.IDColumn)
			args = []any{string(must.NotFail(sjson.MarshalSingleValue(v)))}
		}
	}
`,
	`	if params.Filter.Len() > 0 {
		v, _ := params.Filter.Get("_id")
		ids := []any{v}
		if d, ok := v.(*types.Document); ok && d.Len() == 1 {
			if in, _ := d.Get("$in"); in != nil {
				if a, ok := in.(*types.Array); ok {
					ids = nil
					for i := range a.Len() {
						ids = append(ids, must.NotFail(a.Get(i)))
					}
				}
			}
		}
		for _, id := range ids {
			switch id.(type) {
			case string, types.ObjectID:
				args = append(args, string(must.NotFail(sjson.MarshalSingleValue(id))))
			}
		}
		if len(args) > 0 && len(args) == len(ids) {
			whereClause = fmt.Sprintf(" WHERE %s IN (?%s)", metadata.IDColumn, strings.Repeat(", ?", len(args)-1))
		} else {
			args = nil
		}
	}
`,
}, {
	"internal/backends/sqlite/metadata/registry.go",
	`			columns[i] = fmt.Sprintf("%s->%s", DefaultColumn, strings.Join(fields, "->"))
`,
	`			columns[i] = fmt.Sprintf("%s->%s", DefaultColumn, strings.Join(fields, "->"))
			if key.Field == "_id" {
				columns[i] = IDColumn
			}
`,
}, {
	"internal/handler/sjson/sjson.go",
	`// Unmarshal decodes the top-level document.
// It decodes document's schema from the ` + "`$s`" + ` field and uses it to decode the data of the document.
func Unmarshal(data []byte) (*types.Document, error) {
`,
	`var (
	decodedM sync.RWMutex
	decoded  = make(map[string]*types.Document)
)

// Unmarshal gives a copy of the document that is decoded from the data.
func Unmarshal(data []byte) (*types.Document, error) {
	decodedM.RLock()
	d := decoded[string(data)]
	decodedM.RUnlock()
	if d != nil {
		return d.DeepCopy(), nil
	}
	d, err := unmarshal(data)
	if err != nil {
		return nil, err
	}
	remember(data, d)
	return d, nil
}

func remember(data []byte, d *types.Document) {
	d = d.DeepCopy()
	decodedM.Lock()
	defer decodedM.Unlock()
	if len(decoded) == 5000 {
		clear(decoded)
	}
	decoded[string(data)] = d
}

func unmarshal(data []byte) (*types.Document, error) {
`,
}, {
	"internal/handler/sjson/sjson.go",
	`	buf.WriteByte('}')

	return buf.Bytes(), nil
}

// MarshalSingleValue`,
	`	buf.WriteByte('}')
	remember(buf.Bytes(), d)

	return buf.Bytes(), nil
}

// MarshalSingleValue`,
}, {
	"internal/handler/sjson/sjson.go",
	`	"io"
`,
	`	"io"
	"sync"
`,
}, {
	"internal/util/resource/resource.go",
	`func Track(obj any, token *Token) {
`,
	`func Track(any, *Token) {}

func track(obj any, token *Token) {
`,
}, {
	"internal/util/resource/resource.go",
	`func Untrack(obj any, token *Token) {
`,
	`func Untrack(any, *Token) {}

func untrack(obj any, token *Token) {
`,
}}

// patched copies FerretDB with the patches into the directory work, and a go.mod that says so.
func patched(source, work string) error {
	download := exec.Command("go", "mod", "download", "-json", "github.com/FerretDB/FerretDB")
	download.Dir = source
	download.Env = append(os.Environ(), "GOWORK=off")
	out, err := download.Output()
	if err != nil {
		return fmt.Errorf("download FerretDB: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return fmt.Errorf("find FerretDB: %w", err)
	}
	ferret := filepath.Join(work, "ferretdb")
	if err := os.CopyFS(ferret, os.DirFS(module.Dir)); err != nil {
		return err
	}
	for _, p := range patches {
		name := filepath.Join(ferret, filepath.FromSlash(p.file))
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if strings.Count(string(data), p.old) != 1 {
			return fmt.Errorf("%s is not as it was: mend the patch", p.file)
		}
		if err := os.Remove(name); err != nil { // it is read only, as all of a module
			return err
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(data), p.old, p.new, 1)), 0o600); err != nil {
			return err
		}
	}
	gomod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	gosum, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return err
	}
	gomod = fmt.Appendf(gomod, "\nreplace github.com/FerretDB/FerretDB => %q\n", ferret)
	return errors.Join(os.WriteFile(filepath.Join(work, "go.mod"), gomod, 0o600), os.WriteFile(filepath.Join(work, "go.sum"), gosum, 0o600))
}

// process is a running server. It ends with this process, by the end of its standard input.
type process struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	address string
}

// launch starts a server that keeps its data in dir, or in a directory of its own that goes when
// it stops, and waits until it listens.
func launch(dir string) (*process, error) {
	path, err := serverBinary()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "-dir", dir)
	cmd.Env = append(os.Environ(), "GOGC=800", "GOMAXPROCS=1") // there is memory enough, and the machine is busy with others
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	overdue := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer overdue.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("wait for the server to listen: %w", err)
	}
	return &process{cmd: cmd, stdin: stdin, address: strings.TrimSpace(line)}, nil
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.stdin.Close()
	p.cmd.Wait()
}
