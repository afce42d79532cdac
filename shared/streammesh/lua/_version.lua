-- Gives what is read by version (webhooks, and the rights of their owners) another number than before, whatever stood there.
local function renew(version)
  local t = redis.call('TIME')
  redis.call('SET', version, t[1] .. string.format('%06d', tonumber(t[2])))
end
