#!lua flags=allow-oom
-- Stores or removes what is known of a service whose worker is a URL, if it still is what it was when the change was made.
-- KEYS workers (HASH), manifests (HASH)
-- ARGS service, expected (the document, '' when there was none), document (JSON, '' to remove it), most (of a mesh),
--   changed (channel)
-- Returns 'stored', 'moved' (it is another by now), 'full', or 'taken' (a service of this name has workers of its own).
local was = redis.call('HGET', workers, service) or ''
if was == document then return 'stored' end
if was ~= expected then return 'moved' end
if was == '' then
  if redis.call('HEXISTS', manifests, service) == 1 then return 'taken' end
  if redis.call('HLEN', workers) >= most then return 'full' end
end
if document == '' then
  redis.call('HDEL', workers, service)
else
  redis.call('HSET', workers, service, document)
end
redis.call('PUBLISH', changed, 'workers')
return 'stored'
