#!lua flags=allow-oom
-- Makes a service's group on streams where it is missing, but not that of a service that was taken away: its group
-- would keep events for nobody. A Redis that has lost its data has no version either; then groups are made as asked.
-- KEYS manifests (HASH), version (STRING), streams (STREAM, of each domain)
-- ARGS group (the service's name), start (where it begins), is_service (whether it is a service's)
-- Returns 1 if the group is there now, 0 if the service was taken away.
if is_service and redis.call('EXISTS', version) == 1 and redis.call('HEXISTS', manifests, group) == 0 then return 0 end
for _, stream in ipairs(streams) do
  local made = redis.pcall('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
end
return 1
