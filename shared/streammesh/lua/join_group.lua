#!lua flags=allow-oom
-- Makes a service's group on streams where it is missing, but not that of a service that was taken away: its group
-- would keep events for nobody. A Redis that has lost its data has no version either; then groups are made as asked.
-- KEYS[1] manifests (HASH)  KEYS[2] version of the manifests (STRING)  KEYS[3] and on: events (STREAM)
-- ARGV[1] group: the service's name  ARGV[2] where it begins  ARGV[3] '1' for a group that is no service's
-- Returns 1 if the group is there now, 0 if the service was taken away.
if ARGV[3] ~= '1' and redis.call('EXISTS', KEYS[2]) == 1 and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 3, #KEYS do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], ARGV[2], 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
end
return 1
