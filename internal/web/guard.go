package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// guard lets those through who know the token: as a bearer, as the cookie that an earlier visit
// set, or as ?token=, which sets the cookie and leaves the address bar.
func (s *Site) guard(next http.Handler) http.Handler {
	if s.Token == "" {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !local(r.Host) {
				s.refuse(w, http.StatusForbidden, "Refused", "This page was asked for under a name that may be anybody's.",
					"Ask for it by address or as localhost. To serve it under a name, set HTTP_TOKEN and restart wabot.")
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	name, value := s.cookie()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if given := r.URL.Query().Get("token"); equal(given, s.Token) {
			http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: 90 * 24 * 60 * 60})
			http.Redirect(w, r, r.URL.Path, http.StatusSeeOther)
			return
		}
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		cookie, err := r.Cookie(name)
		if equal(bearer, s.Token) || err == nil && equal(cookie.Value, value) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="wabot"`)
		s.refuse(w, http.StatusUnauthorized, "Token needed", "This page is for those who know its token.",
			"Open it once with ?token= and the value of HTTP_TOKEN at the end of its address; this browser is then let in.")
	})
}

// cookie is the cookie of those who gave the token. It is not the token itself, and its name is
// the token's too, so that two bots on one host do not take each other's place.
func (s *Site) cookie() (name, value string) {
	mac := hmac.New(sha256.New, []byte(s.Token))
	mac.Write([]byte("wabot page"))
	sum := hex.EncodeToString(mac.Sum(nil))
	return "wabot_" + sum[:8], sum[8:]
}

// equal compares in a time that tells nothing of either text, not even its length.
func equal(given, want string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
