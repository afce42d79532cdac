/** Returns a UUIDv7 (RFC 9562): it sorts by time to the millisecond. */
export declare function newId(): string;
