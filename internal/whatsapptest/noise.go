package whatsapptest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"go.mau.fi/libsignal/ecc"
	"golang.org/x/crypto/curve25519"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCert"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/util/keys"
)

// root is the key pair that signs the Noise certificates of all servers of this process.
// whatsmeow keeps the public half in a package variable, so there can only be one; it is set
// once, before the first server is up, and never again.
var root = sync.OnceValue(func() *keys.KeyPair {
	pair := keys.NewKeyPair()
	whatsmeow.WACertPubKey = *pair.Pub
	return pair
})

// RootKey is the public Noise root key of this process; in another process, a client must be
// told it. The first call installs it into this process's whatsmeow, so it must come before
// any client of the process connects. Starting a server calls it.
func RootKey() [32]byte { return *root().Pub }

// handshake is the responder of Noise_XX_25519_AESGCM_SHA256 as WhatsApp frames it.
type handshake struct {
	hash, chain []byte
	aead        cipher.AEAD
	counter     uint32
}

func newHandshake(prologue []byte) *handshake {
	h := &handshake{hash: []byte(socket.NoiseStartPattern), chain: []byte(socket.NoiseStartPattern)}
	h.aead = gcm(h.hash)
	h.mix(prologue)
	return h
}

// mix makes data part of what both sides authenticate.
func (h *handshake) mix(data []byte) {
	sum := sha256.Sum256(append(h.hash[:len(h.hash):len(h.hash)], data...))
	h.hash = sum[:]
}

// mixKey makes a shared secret part of the keys.
func (h *handshake) mixKey(private, public []byte) error {
	secret, err := curve25519.X25519(private, public)
	if err != nil {
		return fmt.Errorf("agree on a secret: %w", err)
	}
	first, second, err := h.expand(secret)
	if err != nil {
		return err
	}
	h.chain, h.aead, h.counter = first, gcm(second), 0
	return nil
}

func (h *handshake) expand(secret []byte) (first, second []byte, err error) {
	out, err := hkdf.Key(sha256.New, secret, h.chain, "", 64)
	if err != nil {
		return nil, nil, fmt.Errorf("derive keys: %w", err)
	}
	return out[:32], out[32:], nil
}

func (h *handshake) seal(plain []byte) []byte {
	sealed := h.aead.Seal(nil, nonce(h.counter), plain, h.hash)
	h.counter++
	h.mix(sealed)
	return sealed
}

func (h *handshake) open(sealed []byte) ([]byte, error) {
	plain, err := h.aead.Open(nil, nonce(h.counter), sealed, h.hash)
	if err != nil {
		return nil, fmt.Errorf("open handshake payload: %w", err)
	}
	h.counter++
	h.mix(sealed)
	return plain, nil
}

// channel is one direction of the connection after the handshake.
type channel struct {
	aead    cipher.AEAD
	counter uint32
}

func (c *channel) seal(plain []byte) []byte {
	sealed := c.aead.Seal(nil, nonce(c.counter), plain, nil)
	c.counter++
	return sealed
}

func (c *channel) open(sealed []byte) ([]byte, error) {
	plain, err := c.aead.Open(nil, nonce(c.counter), sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("open frame %d: %w", c.counter, err)
	}
	c.counter++
	return plain, nil
}

// gcm takes a 32 byte key, for which neither constructor fails.
func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func nonce(counter uint32) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint32(n[8:], counter)
	return n
}

// respond runs the server's side of the handshake: read and write carry its frames. It
// returns who the client says it is, its static key, and the two directions.
func respond(prologue []byte, static *keys.KeyPair, read func() ([]byte, error), write func([]byte) error) (payload *waWa6.ClientPayload, client [32]byte, in, out *channel, err error) {
	fail := func(err error) (*waWa6.ClientPayload, [32]byte, *channel, *channel, error) {
		return nil, client, nil, nil, fmt.Errorf("noise handshake: %w", err)
	}
	h := newHandshake(prologue)
	var hello waWa6.HandshakeMessage
	if err := readProto(read, &hello); err != nil {
		return fail(err)
	}
	theirs := hello.GetClientHello().GetEphemeral()
	if len(theirs) != 32 {
		return fail(errors.New("no client hello"))
	}
	h.mix(theirs)

	ours := keys.NewKeyPair()
	h.mix(ours.Pub[:])
	if err := h.mixKey(ours.Priv[:], theirs); err != nil {
		return fail(err)
	}
	sealedStatic := h.seal(static.Pub[:])
	if err := h.mixKey(static.Priv[:], theirs); err != nil {
		return fail(err)
	}
	chain, err := certificates(static)
	if err != nil {
		return fail(err)
	}
	answer, err := proto.Marshal(&waWa6.HandshakeMessage{ServerHello: &waWa6.HandshakeMessage_ServerHello{
		Ephemeral: ours.Pub[:], Static: sealedStatic, Payload: h.seal(chain),
	}})
	if err != nil {
		return fail(err)
	}
	if err := write(answer); err != nil {
		return fail(err)
	}

	var finish waWa6.HandshakeMessage
	if err := readProto(read, &finish); err != nil {
		return fail(err)
	}
	key, err := h.open(finish.GetClientFinish().GetStatic())
	if err != nil {
		return fail(err)
	}
	if copy(client[:], key) != 32 {
		return fail(errors.New("static key is too short"))
	}
	if err := h.mixKey(ours.Priv[:], key); err != nil {
		return fail(err)
	}
	plain, err := h.open(finish.GetClientFinish().GetPayload())
	if err != nil {
		return fail(err)
	}
	payload = &waWa6.ClientPayload{}
	if err := proto.Unmarshal(plain, payload); err != nil {
		return fail(err)
	}
	first, second, err := h.expand(nil)
	if err != nil {
		return fail(err)
	}
	return payload, client, &channel{aead: gcm(first)}, &channel{aead: gcm(second)}, nil
}

func readProto(read func() ([]byte, error), m proto.Message) error {
	frame, err := read()
	if err != nil {
		return err
	}
	return proto.Unmarshal(frame, m)
}

// certificates makes the certificate chain for a server's static key: signed by an
// intermediate, which the root signed.
func certificates(static *keys.KeyPair) ([]byte, error) {
	intermediate := keys.NewKeyPair()
	const serial = 1
	upper, err := certificate(root(), serial, whatsmeow.WACertIssuerSerial, intermediate)
	if err != nil {
		return nil, err
	}
	lower, err := certificate(intermediate, serial+1, serial, static)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&waCert.CertChain{Leaf: lower, Intermediate: upper})
}

func certificate(issuer *keys.KeyPair, serial, issuerSerial uint32, subject *keys.KeyPair) (*waCert.CertChain_NoiseCertificate, error) {
	now := time.Now()
	details, err := proto.Marshal(&waCert.CertChain_NoiseCertificate_Details{
		Serial: &serial, IssuerSerial: &issuerSerial, Key: subject.Pub[:],
		NotBefore: proto.Uint64(uint64(now.Add(-time.Hour).Unix())),
		NotAfter:  proto.Uint64(uint64(now.Add(24 * time.Hour).Unix())),
	})
	if err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*issuer.Priv), details)
	return &waCert.CertChain_NoiseCertificate{Details: details, Signature: signature[:]}, nil
}

// verify checks an XEdDSA signature.
func verify(key [32]byte, message, signature []byte) bool {
	return len(signature) == 64 && ecc.VerifySignature(ecc.NewDjbECPublicKey(key), message, [64]byte(signature))
}

// signedBy tells whether a signed pre-key is its owner's.
func (k publicPreKey) signedBy(identity [32]byte) bool {
	return verify(identity, append([]byte{ecc.DjbType}, k.public[:]...), k.signature[:])
}

// tlsAuthority is the certificate authority of the servers' TLS and the certificate it gave.
type tlsAuthority struct {
	pem  []byte
	pool *x509.CertPool
	leaf tls.Certificate
}

// authority is made once for the process. It has no state that could fail it but the random
// source, which does not fail.
var authority = sync.OnceValue(func() tlsAuthority {
	a, err := newAuthority()
	if err != nil {
		panic(err)
	}
	return a
})

func newAuthority() (tlsAuthority, error) {
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tlsAuthority{}, fmt.Errorf("make CA key: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "whatsapptest"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return tlsAuthority{}, fmt.Errorf("sign CA: %w", err)
	}
	caCert, err := x509.ParseCertificate(caDER)
	if err != nil {
		return tlsAuthority{}, fmt.Errorf("read CA: %w", err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tlsAuthority{}, fmt.Errorf("make TLS key: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "web.whatsapp.com"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{
			"whatsapp.com", "*.whatsapp.com", "whatsapp.net", "*.whatsapp.net", "*.cdn.whatsapp.net",
		},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, caCert, leafKey.Public(), caKey)
	if err != nil {
		return tlsAuthority{}, fmt.Errorf("sign TLS certificate: %w", err)
	}
	a := tlsAuthority{
		pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		pool: x509.NewCertPool(),
		leaf: tls.Certificate{Certificate: [][]byte{leafDER, caDER}, PrivateKey: leafKey},
	}
	a.pool.AddCert(caCert)
	return a, nil
}
