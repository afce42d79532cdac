-- Stores a service's manifest and makes its consumer groups, so that from this moment nothing is
-- missed and nothing older comes unasked: at the end of streams that exist, at the start of new ones.
-- KEYS[1] manifests (HASH)  then per domain: its stream (STREAM)
-- ARGV[1] service  ARGV[2] manifest (JSON)  ARGV[3] channel for changes
-- Returns 1 if it differs from what was there, 0 if not.
for i = 2, #KEYS do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], '$', 'MKSTREAM')
  if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
end
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], 'manifests')
return 1
