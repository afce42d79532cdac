#!lua flags=allow-oom
-- Stores what is known of a service whose worker is a URL, together with its manifest, if it still is what it was when the
-- change was made; or removes it, and leaves its manifest to who removes the service. Both or nothing.
-- KEYS workers (HASH), manifests (HASH), sealed (STRING, the service's own), domains (SET), version (STRING), joined (HASH)
-- ARGS service, expected (the document, '' when there was none), document (JSON, '' to remove it), most (of a mesh),
--   told (channel of the webhook workers), manifest (JSON), changed (channel), is_open (whether a domain is left open),
--   prefix (what a stream's key begins with, before its domain), start (where groups begin that are missing: '$'),
--   streams (key of each domain named)
-- Returns 'stored', 'moved' (it is another by now), 'full', or 'taken' (a service of this name has workers of its own).
--#include _register.lua
local was = redis.call('HGET', workers, service) or ''
if was ~= document and was ~= expected then return 'moved' end
if was == '' and document ~= '' then
  if redis.call('HEXISTS', manifests, service) == 1 then return 'taken' end
  if redis.call('HLEN', workers) >= most then return 'full' end
end
if document == '' then
  redis.call('HDEL', workers, service)
else
  local registered = register()
  if type(registered) == 'table' then return registered end
  redis.call('HSET', workers, service, document)
end
redis.call('PUBLISH', told, 'workers')
return 'stored'
