package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"wabot/internal/qr/qrtest"
	"wabot/internal/whatsapptest"
)

// ample is how long a step may wait: an engine on a busy machine takes its time, and the script bounds the whole.
const ample = 5 * time.Minute

// composition is a fresh copy of the tree that docker-compose is run in. Its world is on the host.
type composition struct {
	t       *testing.T
	dir     string
	command []string
	env     []string
	asked   map[string]int // what the owner asked, and how often
	*world
}

// TestCompose is a newcomer's way from a fresh copy of the tree to a bot in containers, and what
// may befall it there. scripts/check-compose.sh prepares what it needs and runs it.
func TestCompose(t *testing.T) {
	dir := os.Getenv("WABOT_COMPOSE_DIR")
	if dir == "" {
		t.Skip("needs a Docker engine: run scripts/check-compose.sh")
	}
	w, err := newWorld("", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	command := strings.Fields(os.Getenv("COMPOSE"))
	if len(command) == 0 {
		command = []string{"docker-compose"}
	}
	c := &composition{t: t, dir: dir, command: command, asked: map[string]int{}, world: w}
	port := freePort(t)
	c.env = append(os.Environ(), "COMPOSE_PROJECT_NAME=wabot-check", fmt.Sprintf("HTTP_PORT=%d", port), "VERSION=check")
	t.Cleanup(func() {
		c.run("down", "--volumes", "--remove-orphans")
		exec.Command("docker", "image", "rm", "wabot-check").Run()
	})
	c.leadHere()

	c.step("wabot init in the container of the bot, before which MongoDB starts with the example's passwords")
	start := time.Now()
	if out, err := c.try("run", "--rm", "-T", "app", "init"); err == nil || !strings.Contains(out, "docker-compose run --rm init") {
		t.Errorf("it does not say where to go: %v\n%s", err, out)
	}
	t.Logf("the image was built, and MongoDB healthy, in %s", time.Since(start).Round(time.Second))

	c.step("docker-compose run --rm init")
	c.do(c.input("sk-check\n", "run", "--rm", "-T", "init"))
	c.checkDotenv()
	if out := c.run("run", "--rm", "-T", "--no-deps", "app", "version"); !strings.Contains(out, "wabot check") {
		t.Errorf("the version is %q", out)
	}
	c.imageSize()

	c.step("docker-compose up, in the foreground, and a scan")
	ctx := c.patience(ample)
	foreground := c.follow("up")
	c.do(c.scan(ctx, "owner"))
	c.do(c.online(ctx))
	c.chats("in the foreground")
	if _, err := qrtest.Read(c.run("logs", "--no-color", "app")); err != nil {
		t.Errorf("docker-compose logs shows no QR code: %v", err)
	}
	c.hardened()
	c.page(port)
	if out, err := c.try("port", "mongodb", "27017"); err == nil && strings.Contains(out, ":") && !strings.Contains(out, ":0") {
		t.Errorf("MongoDB is published at %s", out)
	}
	if strings.Contains(foreground.output.String(), "of the example") {
		t.Error("warnings of the example's passwords, with a .env of wabot init")
	}
	c.do(foreground.cmd.Process.Signal(os.Interrupt))
	select {
	case <-foreground.exited:
	case <-time.After(ample):
		t.Fatal("docker-compose up does not end")
	}

	c.step("docker-compose down && docker-compose up -d: no second QR code")
	c.down()
	c.chatsOn()
	c.chats("after down and up")

	c.step("mongodb killed")
	c.kill("mongodb")
	c.chats("after the database was killed")

	c.step("the bot killed")
	c.kill("app")
	c.chats("after the bot was killed")
	c.memory()

	c.step("doctor, beside the running bot")
	if out := c.docker("exec", strings.TrimSpace(c.run("ps", "-q", "app")), "/wabot", "doctor"); !strings.Contains(out, "a wabot runs here: online") || !strings.Contains(out, "all indexes are there") || strings.Contains(out, "other users of this machine") {
		t.Errorf("doctor says:\n%s", out)
	}

	c.step("a backup, an empty database, and the restore")
	c.run("stop", "app")
	backup := c.output("", "run", "--rm", "-T", "-e", "BACKUP_PASSPHRASE=correct horse battery", "app", "session", "export", "-")
	if !strings.HasPrefix(backup, "age-encryption.org/") {
		t.Fatalf("the backup begins with %.60q", backup)
	}
	c.run("run", "--rm", "-T", "app", "session", "delete", "--yes")
	c.output(backup, "run", "--rm", "-T", "-e", "BACKUP_PASSPHRASE=correct horse battery", "app", "session", "import", "-")
	c.chatsOn()
	c.chats("after the restore")

	c.step("SESSION_KEY turned on")
	key := strings.Repeat("5e", 32)
	c.env, c.secrets = append(c.env, "SESSION_KEY="+key), append(c.secrets, key)
	c.chatsOn()
	c.chats("encrypted at rest")

	c.step("the database's passwords changed")
	// As in the README, but for the prompt. It logs in with a password of init, so MongoDB has taken it over.
	c.run("exec", "-T", "mongodb", "sh", "-c", `mongosh --quiet -u root -p "$MONGO_INITDB_ROOT_PASSWORD" admin --eval "db.changeUserPassword('root', 'another-of-root')"`)
	c.set("MONGO_PASSWORD", "another-of-the-bot")
	c.set("MONGO_ROOT_PASSWORD", "another-of-root")
	c.secrets = append(c.secrets, "another-of-the-bot", "another-of-root")
	c.chatsOn()
	c.chats("with other passwords")

	c.step("the commands of the README for a running bot")
	for command, want := range map[string]string{
		"session verify": "Everything can be read",
		"session list":   "Linked",
		"explain":        "delivered",
	} {
		args := append([]string{"exec", "-T", "app", "/wabot"}, strings.Fields(command)...)
		if out := c.run(args...); !strings.Contains(out, want) {
			t.Errorf("%s says:\n%s", command, out)
		}
	}

	c.step("to the files and back")
	c.run("stop", "app")
	c.run("run", "--rm", "-T", "app", "session", "copy", "--from", "mongo", "--to", "file")
	c.set("MONGO_ENABLED", "False")
	c.chatsOn()
	c.chats("from the files")
	c.run("stop", "app")
	c.run("run", "--rm", "-T", "app", "session", "copy", "--from", "file", "--to", "mongo")
	c.set("MONGO_ENABLED", "True")
	c.chatsOn()
	c.chats("back in the database")

	c.step("session make-safe")
	c.run("stop", "app")
	c.run("run", "--rm", "-T", "app", "session", "make-safe")
	c.chatsOn()
	c.chats("made safe")

	c.step("docker-compose up --scale app=2: a leader and a standby")
	two := c.two()
	c.chats("with two")
	c.page(port)

	c.step("docker kill of the leader")
	// Killed by hand, it is not started again by the engine.
	c.docker("kill", two.leader)
	c.chats("after the leader was killed")
	c.page(port)

	c.step("docker stop of the leader, with the other one back")
	two = c.two()
	c.page(port)
	c.docker("stop", two.leader)
	c.chats("after the leader was stopped")
	c.page(port)
	c.once()

	c.step("logout")
	c.run("stop", "app")
	if out := c.run("run", "--rm", "-T", "app", "logout", "--yes"); !strings.Contains(out, "Logged out") || c.owner.HasDevice(c.device) {
		t.Errorf("the device is linked still:\n%s", out)
	}
	c.run("run", "--rm", "-T", "app", "session", "delete", "--store", "file", "--yes")
	c.down("--volumes")

	c.step("the example's passwords, on the file store in a directory of somebody else")
	c.do(os.Remove(filepath.Join(c.dir, ".env")))
	if os.Getuid() == 0 {
		project, err := os.Stat(c.dir)
		c.do(err)
		owner := project.Sys().(*syscall.Stat_t)
		c.do(os.Chown(filepath.Join(c.dir, "session"), int(owner.Uid), int(owner.Gid)))
	}
	c.env = append(c.env, "MONGO_ENABLED=False")
	c.run("up", "-d")
	logs := c.follow("logs", "--no-color", "--follow")
	c.bot = logs
	ctx = c.patience(ample)
	c.do(c.scan(ctx, "another"))
	c.do(c.online(ctx))
	c.chats("on the file store")
	for _, warning := range []string{"MONGO_PASSWORD is the one of the example", "MongoDB's root has the password of the example"} {
		if err := c.says(ctx, warning); err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(filepath.Join(c.dir, "session"))
	c.do(err)
	if info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != 65532 {
		t.Errorf("session is %v of %d", info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}
	logs.cmd.Process.Kill()
	c.once()
	c.down()
	w.sound(t)
}

func (c *composition) step(what string) { c.t.Logf("--- %s", what) }

func (c *composition) do(err error) {
	c.t.Helper()
	if err != nil {
		if c.bot != nil {
			c.t.Log(c.bot.output.String())
		}
		for _, args := range [][]string{{"ps"}, {"logs", "--no-color", "--tail=60"}} {
			out, _ := c.try(args...)
			c.t.Log(out)
		}
		c.t.Fatal(err)
	}
}

func (c *composition) patience(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), d)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *composition) compose(args ...string) *exec.Cmd {
	cmd := exec.Command(c.command[0], append(c.command[1:], args...)...)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

// try runs docker-compose to its end and gives all output.
func (c *composition) try(args ...string) (string, error) {
	out, err := c.compose(args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("docker-compose %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (c *composition) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Error(err)
	}
	return out
}

// input runs docker-compose with an input.
func (c *composition) input(text string, args ...string) error {
	cmd := c.compose(args...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("docker-compose %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// output runs docker-compose with an input and gives what it writes to the standard output.
func (c *composition) output(input string, args ...string) string {
	c.t.Helper()
	cmd := c.compose(args...)
	cmd.Stdin = strings.NewReader(input)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("docker-compose %s: %v\n%s", strings.Join(args, " "), err, messages.String())
	}
	return out.String()
}

// follow starts docker-compose; what it prints is the bot's screen from now on.
func (c *composition) follow(args ...string) *process {
	c.t.Helper()
	cmd := c.compose(args...)
	p := &process{cmd: cmd, output: transcript{more: make(chan struct{})}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	c.do(cmd.Start())
	go func() {
		defer close(p.exited)
		cmd.Wait()
	}()
	c.bot = p
	return p
}

func (c *composition) docker(args ...string) string {
	c.t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		c.t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// leadHere makes the containers talk to this test's WhatsApp and model, through the engine's own
// network, by an override file such as an operator would write.
func (c *composition) leadHere() {
	gateway := c.docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
	relay := func(address string) string {
		u, err := url.Parse(address)
		c.do(err)
		l, err := net.Listen("tcp", net.JoinHostPort(gateway, "0"))
		c.do(err)
		c.t.Cleanup(func() { l.Close() })
		go accept(l, u.Host)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		u.Host = net.JoinHostPort("host.docker.internal", port)
		return u.String()
	}
	ca, err := c.whatsapp.CAFile(c.dir)
	c.do(err)
	c.do(os.Chmod(ca, 0o644))
	root := whatsapptest.RootKey()
	c.do(os.WriteFile(filepath.Join(c.dir, "docker-compose.override.yml"), fmt.Appendf(nil, `services:
  app:
    image: wabot-check
    extra_hosts: ["host.docker.internal:host-gateway"]
    volumes: ["./%s:/ca.pem:ro"]
    environment:
      HTTPS_PROXY: %q
      SSL_CERT_FILE: /ca.pem
      WHATSAPP_NOISE_ROOT_KEY: %q
      OPENAI_BASE_URL: %q
      OPENAI_MODEL: test
  page:
    image: wabot-check
  init:
    image: wabot-check
`, filepath.Base(ca), relay(c.whatsapp.ProxyURL()), hex.EncodeToString(root[:]), relay(c.model.URL())), 0o644))
}

// accept passes connections on to an address.
func accept(l net.Listener, address string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer out.Close()
			done := make(chan struct{}, 2)
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					io.Copy(way[0], way[1])
					done <- struct{}{}
				}()
			}
			<-done
		}()
	}
}

// freePort finds a port that is free now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// chats lets the owner ask something, and hears the answer.
func (c *composition) chats(text string) {
	c.t.Helper()
	start := time.Now()
	ctx := c.patience(ample)
	_, err := c.owner.Say(ctx, c.owner.LID(), text)
	c.do(err)
	c.asked[text]++
	c.do(c.hear(ctx, c.owner.Name(), c.owner.LID(), "You said: "+text))
	c.t.Logf("answered %q after %s", text, time.Since(start).Round(100*time.Millisecond))
}

// chatsOn brings everything up in the background and checks that the bot comes online without a QR code.
func (c *composition) chatsOn() {
	c.t.Helper()
	start := time.Now()
	c.run("up", "-d")
	logs := c.follow("logs", "--no-color", "--follow", "app")
	c.do(c.online(c.patience(ample)))
	c.t.Logf("online %s after docker-compose up -d", time.Since(start).Round(time.Second))
	if strings.Contains(logs.output.String(), "point the phone at this code") {
		c.t.Error("a second QR code")
	}
	logs.cmd.Process.Kill()
}

// kill kills a container's process, as a crash does: it is the engine that starts it again.
func (c *composition) kill(service string) {
	c.t.Helper()
	id := strings.TrimSpace(c.run("ps", "-q", service))
	var pid int
	if _, err := fmt.Sscan(c.docker("inspect", "--format", "{{.State.Pid}}", id), &pid); err != nil || pid <= 1 {
		c.t.Fatalf("the process of %s is %d, %v", service, pid, err)
	}
	err := syscall.Kill(pid, syscall.SIGKILL)
	if errors.Is(err, syscall.EPERM) {
		// Not root here: then as an operator does it.
		c.run("kill", service)
		c.run("up", "-d")
		return
	}
	c.do(err)
}

// down takes everything down. What was logged until then is kept, to be looked through for leaks.
func (c *composition) down(args ...string) {
	c.t.Helper()
	c.shows(c.run("logs", "--no-color"))
	c.run(append([]string{"down"}, args...)...)
}

// set gives a setting a value in .env.
func (c *composition) set(name, value string) {
	c.t.Helper()
	path := filepath.Join(c.dir, ".env")
	text, err := os.ReadFile(path)
	c.do(err)
	line := regexp.MustCompile("(?m)^(# )?" + name + "=.*$")
	if len(line.FindAll(text, -1)) != 1 {
		c.t.Fatalf(".env has not one line for %s", name)
	}
	c.do(os.WriteFile(path, line.ReplaceAllLiteral(text, []byte(name+"="+value)), 0o600))
}

// checkDotenv checks what wabot init wrote: closed to others, and of the owner of the directory.
func (c *composition) checkDotenv() {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, ".env"))
	c.do(err)
	file, err := os.Stat(filepath.Join(c.dir, ".env"))
	c.do(err)
	dir, err := os.Stat(c.dir)
	c.do(err)
	if file.Mode().Perm() != 0o600 || file.Sys().(*syscall.Stat_t).Uid != dir.Sys().(*syscall.Stat_t).Uid {
		c.t.Errorf(".env is %v of %d, in a directory of %d", file.Mode(), file.Sys().(*syscall.Stat_t).Uid, dir.Sys().(*syscall.Stat_t).Uid)
	}
	for line := range strings.Lines(string(text)) {
		if found := secret.FindStringSubmatch(strings.TrimSpace(line)); found != nil && found[2] != "" {
			c.secrets = append(c.secrets, found[2])
		}
	}
	if !bytes.Contains(text, []byte("OPENAI_API_KEY=sk-check\n")) || bytes.Contains(text, []byte("change-this")) {
		c.t.Error(".env has not the key, or an example's password")
	}
}

// hardened checks what the engine made of the bot's container.
func (c *composition) hardened() {
	c.t.Helper()
	var all []struct {
		Config     struct{ User string }
		HostConfig struct {
			ReadonlyRootfs       bool
			CapDrop, SecurityOpt []string
			Init                 *bool
		}
	}
	id := strings.TrimSpace(c.run("ps", "-q", "app"))
	c.do(json.Unmarshal([]byte(c.docker("inspect", id)), &all))
	h := all[0].HostConfig
	if all[0].Config.User != "65532:65532" || !h.ReadonlyRootfs || len(h.CapDrop) != 1 || h.CapDrop[0] != "ALL" ||
		len(h.SecurityOpt) != 1 || !strings.HasPrefix(h.SecurityOpt[0], "no-new-privileges") || h.Init == nil || !*h.Init {
		c.t.Errorf("the container is not as closed as it should be: %+v", all[0])
	}
	if env := c.docker("inspect", "--format", "{{.Config.Env}}", id); strings.Contains(env, "ROOT_PASSWORD") {
		c.t.Error("the bot is given the password of the database's root")
	}
}

// pair is the containers of two bots.
type pair struct{ leader, standby string }

// two brings up two bots and waits until one leads and the other stands by.
func (c *composition) two() (is pair) {
	c.t.Helper()
	c.run("up", "-d", "--scale", "app=2")
	ctx, tick := c.patience(ample), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for is.leader == "" || is.standby == "" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.do(fmt.Errorf("no leader and standby, only %+v: %w", is, ctx.Err()))
		}
		is = pair{}
		for id := range strings.FieldsSeq(c.run("ps", "-q", "app")) {
			// From this machine a container is reached at its own address.
			at := strings.Fields(c.docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", id))
			if len(at) == 0 {
				continue
			}
			switch ready, _ := get(ctx, "http://"+at[0]+":3000/readyz"); {
			case strings.Contains(ready, `"state":"online"`):
				is.leader = id
			case strings.Contains(ready, `"state":"standby"`):
				is.standby = id
			}
		}
	}
	return is
}

func get(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// once checks that everything the owner asked was answered once.
func (c *composition) once() {
	c.t.Helper()
	for text, times := range c.asked {
		if n := shown(c.owner, c.owner.LID(), "You said: "+text); n != times {
			c.t.Errorf("%q was answered %d times, and asked %d times", text, n, times)
		}
	}
	clear(c.asked)
}

// page waits until the page, published for this machine alone, is that of a bot that is online, and checks that
// what serves it is healthy.
func (c *composition) page(port int) {
	c.t.Helper()
	ctx, tick := c.patience(ample), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	site := fmt.Sprintf("http://127.0.0.1:%d/", port)
	ready, err := get(ctx, site+"readyz")
	for !strings.Contains(ready, `"state":"online"`) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.do(fmt.Errorf("the page is not that of a bot that is online: %s, %v", ready, err))
		}
		ready, err = get(ctx, site+"readyz")
	}
	if body, err := get(ctx, site); err != nil || !strings.Contains(body, ">Online</h1>") {
		c.t.Errorf("the page: %v\n%s", err, body)
	}
	if at := strings.TrimSpace(c.run("port", "page", "3000")); at != fmt.Sprintf("127.0.0.1:%d", port) {
		c.t.Errorf("the page is published at %q", at)
	}
	for id := range strings.FieldsSeq(c.run("ps", "-q", "app", "page")) {
		if running := c.docker("inspect", "--format", "{{.State.Running}}", id); running == "true" {
			c.docker("exec", id, "/wabot", "healthcheck")
		}
	}
}

// imageSize says how large the image is, and holds it to what the README says.
func (c *composition) imageSize() {
	c.t.Helper()
	var size int64
	_, err := fmt.Sscan(c.docker("image", "inspect", "--format", "{{.Size}}", "wabot-check"), &size)
	c.do(err)
	c.t.Logf("image: %.1f MB", float64(size)/1e6)
	if size > 40e6 {
		c.t.Errorf("the image has %d bytes, more than 40 MB", size)
	}
}

func (c *composition) memory() {
	c.t.Helper()
	for _, service := range []string{"app", "page", "mongodb"} {
		id := strings.TrimSpace(c.run("ps", "-q", service))
		c.t.Logf("memory of %s: %s", service, c.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", id))
	}
}
