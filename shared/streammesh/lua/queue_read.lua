#!lua flags=allow-oom
-- Reads new entries for one consumer from several streams, in the order of the keys, without waiting.
-- KEYS streams (STREAM, the most important first)
-- ARGS group, me (the consumer), most (entries in all)
-- Returns {{stream, {{id, fields}, ...}}, ...} as XREADGROUP does; its error when a group is missing.
local answer, left = {}, most
for _, stream in ipairs(streams) do
  if left <= 0 then break end
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', left, 'STREAMS', stream, '>')
  if read then
    answer[#answer + 1] = read[1]
    left = left - #read[1][2]
  end
end
return answer
