package whatsapptest

import (
	"encoding/hex"
	"os"
	"os/exec"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"
)

// subprocessRoot is set, to the Noise root key in hex, in the process that TestInSubprocess
// starts.
const subprocessRoot = "WHATSAPPTEST_NOISE_ROOT_KEY"

// TestInSubprocess runs a client in another process, which learns of the server from its
// environment alone: the proxy, the TLS authority and the Noise root key.
func TestInSubprocess(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	file, err := s.CAFile(t.TempDir())
	must(t, err)
	root := RootKey()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestClientOfSubprocess$", "-test.v")
	cmd.Env = append(os.Environ(),
		subprocessRoot+"="+hex.EncodeToString(root[:]), "HTTPS_PROXY="+s.ProxyURL(), "SSL_CERT_FILE="+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("client in another process: %v\n%s", err, out)
	}
	if unknown := s.Unknown(); len(unknown) != 0 {
		t.Errorf("unknown to the server: %q", unknown)
	}
}

// TestClientOfSubprocess is the client of TestInSubprocess. It uses whatsmeow's own HTTP
// clients and gets as far as its QR code, which is past the handshake.
func TestClientOfSubprocess(t *testing.T) {
	root := os.Getenv(subprocessRoot)
	if root == "" {
		t.Skip("runs in the process that TestInSubprocess starts")
	}
	key, err := hex.DecodeString(root)
	must(t, err)
	whatsmeow.WACertPubKey = [32]byte(key)
	ctx := testContext(t)
	if _, err := whatsmeow.GetLatestVersion(ctx, nil); err != nil {
		t.Error(err)
	}
	c := newClient(t, nil)
	must(t, c.Connect())
	await(ctx, c, anything[*events.QR])
}
