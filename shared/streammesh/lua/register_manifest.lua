#!lua flags=allow-oom
-- Stores a service's manifest and makes its consumer groups, so that from this moment nothing is
-- missed and nothing older comes unasked: at the end of streams that exist, at the start of new ones.
-- A service that begins to want every domain (a glob leaves the domain open) joins each that exists at its
-- end; a domain that comes into being later it joins from the beginning, which is its lane's business.
-- The version says to a dispatcher that its routes are of yesterday, before it judges an event by them; it
-- begins with the time, so that it does not come again after Redis lost its data.
-- KEYS manifests (HASH), sealed (STRING, the service's own), domains (SET), version (STRING), joined (HASH)
-- ARGS service, manifest (JSON), changed (channel), is_open (whether a domain is left open),
--   prefix (what a stream's key begins with, before its domain: all in one slot, also that of the streams),
--   start (where groups begin that are missing: '$', or '0' for a service that Redis has forgotten, which then
--   misses nothing: what was handed over before is not handed over again),
--   before (what the caller read and made this manifest of, '' for none), is_checked (whether that has to be there still),
--   streams (key of each domain named)
-- Returns 1 if it differs from what was there, 0 if not, -1 if something else was there: nothing was changed.
--#include _register.lua
if is_checked and (redis.call('HGET', manifests, service) or '') ~= before then return -1 end
return register()
